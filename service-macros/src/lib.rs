//! The `#[service]` attribute: a typed client and a server from one trait.
//!
//! The trait is the service's interface, and it stays an ordinary trait. From it the attribute
//! writes a client with the same methods and an adapter that makes any implementation a handler of
//! calls. The written code knows messages and statuses only; which way a call goes is decided
//! elsewhere, at run time.
#![forbid(unsafe_code)]

mod arguments;
mod batch;
mod batched;
mod client;
mod descriptor;
mod dynamic;
mod local;
mod mock;
mod naming;
mod place;
mod server;
mod service;
mod settings;
mod syntax;
mod tuple;
mod types;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{ItemTrait, ReturnType, Signature, TraitItem, parse_macro_input};

use service::{Options, Service};

/// Makes a trait a service that can be called by name.
///
/// ```
/// use rkyv::Archived;
/// use service_core::{Context, Status};
/// use service_macros::service;
///
/// // With the facade crate it is just `#[service]`.
/// #[service(crate = service_core::__private)]
/// pub trait Echo {
///     /// Gives the body back.
///     fn echo(&self, ctx: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status>;
///     /// Adds the values, read where they arrived, without a copy.
///     fn sum(&self, ctx: &Context<'_>, values: &Archived<Vec<f32>>) -> Result<f32, Status>;
/// }
///
/// struct MyEcho;
///
/// impl Echo for MyEcho {
///     fn echo(&self, _: &Context<'_>, body: [u64; 8]) -> Result<[u64; 8], Status> {
///         Ok(body)
///     }
///
///     fn sum(&self, _: &Context<'_>, values: &Archived<Vec<f32>>) -> Result<f32, Status> {
///         Ok(values.iter().map(|value| value.to_native()).sum())
///     }
/// }
///
/// let server = EchoServer::new(MyEcho); // a board serves it, an `EchoClient` calls it
/// assert_eq!(EchoClient::descriptor().methods[1].name, "sum");
/// # drop(server);
/// ```
///
/// # What a method looks like
/// It takes `&self`, then the call's context, then any number of arguments, and answers
/// `Result<T, Status>`. An argument is one of:
///
/// | in the trait | the handler gets | the client takes |
/// |---|---|---|
/// | `T` | an owned value | `T` |
/// | `&Archived<T>` | the value in place, not copied | `&T` |
/// | `&str` | the text in place | `&str` |
/// | `&[u8]` | the bytes in place | `&[u8]` |
///
/// `T` derives rkyv's `Archive`, `Serialize` and `Deserialize`, or is a standard type that rkyv
/// knows.
///
/// - **`async fn`** makes the handler a task. It holds no thread while it waits, is polled by the service's workers, and
///   its future is `Send`. A plain `fn` is run by a worker, which it may hold.
/// - **Streams** stand behind the other arguments: `Incoming<A>` are items from the client, `Outgoing<B>` is the way of
///   items to it; at most one of each. A plain `fn` with streams gets a thread of its own.
/// - **Errors of the service's own**: `Result<T, E>` with an `E` that implements `ServiceError` travels as a value, and
///   the client's methods fail with `CallError<E>`.
/// - **Batches**: a method with `#[batch(max = 32, delay = "2ms")]` takes many calls at once, as
///   `fn embed(&self, calls: &[Context<'_>], texts: &[&str], limits: Vec<u32>) -> Vec<Result<T, Status>>`: each argument
///   of all calls, and an answer for each. The client calls it one by one as any other method. A call that finds none
///   under way is run at once; later ones are brought together until there are `max` of them, or `bytes` (if given) in
///   their requests, or the first has waited for `delay`, or no other batch is under way. An item that fails fails no
///   other, a panic fails its batch only. A plain `fn` runs where tasks are polled.
///
/// - **Dynamic calls**: a method whose types all know serde can also be called by values that describe themselves, from
///   programs that do not know the trait; its descriptor says so. Methods with streams and batches take typed messages
///   only.
///
/// Generic methods, associated types and constants are refused with a message at the place.
///
/// # Attributes
/// | of a method | |
/// |---|---|
/// | `#[idempotent]` | it may be called again without harm |
/// | `#[timeout("2s")]` | how long a call may take whose caller does not say; units are `ns`, `us`, `ms`, `s`, `m`, `h` |
/// | `#[priority(low)]` | `low`, `normal` or `high`, for calls whose caller does not say |
/// | `#[batch(max = 32, delay = "2ms", bytes = 1_000_000)]` | it takes many calls at once |
/// | `#[deprecated]` | the client's methods are too, and the descriptor says it |
///
/// | of the trait | |
/// |---|---|
/// | `#[service(version = "1.2")]` | the version that descriptors and mismatches name |
/// | `#[service(typed_only)]` | no method can be called by values that describe themselves |
/// | `#[service(crate = path)]` | the module with the support code, for crates that re-export it |
///
/// # What is written
/// For a trait `Echo`:
/// - the trait itself, with the supertraits `Send + Sync + 'static`; an `async fn` becomes one that gives
///   `impl Future + Send`, and implementations still write `async fn`;
/// - `EchoClient`: `connect(&board, "name")`, `with_timeout`, `with(CallOptions)`, `stats`, and for each method `echo`
///   three: `echo` waits for the reply, `echo_with` takes a closure and reads the reply in place, `echo_async` is for
///   tasks. A method with streams has one, for threads and tasks, that gives a `ServerStream`, a `ClientStream` or a
///   `BothWays`;
/// - `EchoBatch`, from `client.batch()`: the methods without streams once more; `send_batch` announces the calls to the
///   service together;
/// - `EchoServer<S>`: `EchoServer::new(implementation)` is what a board serves. Clients of the same program call the
///   plain methods of the implementation itself: owned arguments are moved, `&str` and `&[u8]` are lent, and only
///   `&Archived<T>` is written, once;
/// - `EchoMock`: an implementation made of closures, `EchoMock::new().on_echo(|ctx, body| Ok(body))`, for the tests of
///   those who call the service. A method without one answers `Unimplemented`;
/// - a hidden trait by which clients of the same program reach an implementation.
///
/// # What may change
/// Methods are matched by name when a client connects. A new method does not disturb clients that do not know it, and a
/// method that the service lacks fails alone, not run. A method whose arguments, reply or items are of other types is
/// refused at the connection, with both fingerprints and versions in the text. Other names, other orders of methods, other
/// attributes and another type of error change nothing for clients that are already built.
#[proc_macro_attribute]
pub fn service(options: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let options = parse_macro_input!(options as Options);
    let item = parse_macro_input!(item as ItemTrait);
    expand(options, item).into()
}

fn expand(options: Options, mut item: ItemTrait) -> TokenStream {
    let written = match Service::read(options, &item) {
        Ok(service) => {
            let parts = [client::write, batch::write, local::write, server::write, mock::write];
            parts.map(|write| write(&service)).into_iter().collect()
        }
        Err(error) => error.into_compile_error(),
    };
    for bound in [quote!(::core::marker::Send), quote!(::core::marker::Sync), quote!('static)] {
        item.supertraits.push(syn::parse_quote!(#bound));
    }
    for item in &mut item.items {
        if let TraitItem::Fn(method) = item {
            method.attrs.retain(|attr| !settings::is_ours(attr));
            if method.default.is_none() {
                promise_send(&mut method.sig);
            }
        }
    }
    quote!(#item #written)
}

/// Makes an `async fn` one whose future may go to other threads; implementations still write `async fn`.
fn promise_send(sig: &mut Signature) {
    let Some(asyncness) = sig.asyncness.take() else { return };
    let span = place::at(asyncness.span);
    let output = match &sig.output {
        ReturnType::Default => quote!(()),
        ReturnType::Type(_, output) => quote!(#output),
    };
    sig.output = syn::parse_quote_spanned! {span=>
        -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
    };
}
