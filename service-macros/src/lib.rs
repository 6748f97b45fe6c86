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
/// knows. Generic methods, `async fn`, associated types and constants are refused with a message at
/// the place.
///
/// # What is written
/// - the trait itself, with the supertraits `Send + Sync + 'static`;
/// - `EchoClient`: `connect(&board, "name")`, `with_timeout`, `stats`, one method for each of the
///   trait's, and for each a second one, `echo_with`, that takes a closure and reads the reply in
///   place;
/// - `EchoServer<S>`: `EchoServer::new(implementation)` is what a board serves.
///
/// `#[service(crate = path)]` names the module with the support code, for crates that re-export it.
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
            promise_send(&mut method.sig);
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
