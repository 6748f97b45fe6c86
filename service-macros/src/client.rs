//! Writes the typed client.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Ident, Path};

use crate::arguments::{Arg, Form};
use crate::service::{Direction, Method, Service, Style};
use crate::settings::Priority;
use crate::{descriptor, local, naming, place, tuple};

impl Service {
    pub(crate) fn client_ident(&self) -> Ident {
        format_ident!("{}Client", self.ident)
    }
}

impl Arg {
    /// Writes the element of the client's request tuple.
    fn sent(&self, support: &Path, span: Span) -> TokenStream {
        let Self { ident, form } = self;
        match form {
            Form::Value(_) => quote_spanned!(span=> #support::ByRef(&#ident)),
            Form::InPlace(_) => quote_spanned!(span=> #support::ByRef(#ident)),
            Form::Str => quote_spanned!(span=> #support::Str(#ident)),
            Form::Bytes => quote_spanned!(span=> #support::Bytes(#ident)),
        }
    }
}

/// Names of written code that no argument and no type of the trait has.
struct Names {
    call: Ident,
    message: Ident,
    metadata: Ident,
    place: Ident,
    read: Ident,
    made: Ident,
    request: Ident,
    timeout: Ident,
}

impl Names {
    fn new() -> Self {
        let name = |name| Ident::new(name, Span::mixed_site());
        Self {
            call: name("call"),
            message: name("message"),
            metadata: name("metadata"),
            place: name("place"),
            read: name("read"),
            made: name("__Made"),
            request: name("request"),
            timeout: name("timeout"),
        }
    }
}

pub(crate) fn write(service: &Service) -> TokenStream {
    let Service { support, vis, ident, methods, .. } = service;
    let client = service.client_ident();
    let batch = service.batch_ident();
    let struct_doc = format!("Calls a service `{ident}`. Clones and threads share its connection.");
    let descriptor = descriptor::write(service);
    let checks = methods.iter().map(|method| method.checks(support));
    let calls = methods.iter().enumerate().map(|(index, method)| write_calls(service, index as u16, method));

    quote! {
        #(#checks)*

        #[doc = #struct_doc]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #vis struct #client {
            channel: #support::Arc<#support::Channel>,
            options: #support::CallOptions,
        }

        #[allow(dead_code)]
        impl #client {
            /// Describes the methods, in the order of their indices.
            pub fn descriptor() -> &'static #support::ServiceDescriptor {
                #descriptor
            }

            /// Connects to the service at `address`. Blocks until the service has answered.
            ///
            /// # Errors
            /// `InvalidArgument` if `address` is none, `NotFound` if nothing serves it,
            /// `FailedPrecondition` if it is served with other types; nothing has run.
            pub fn connect(
                board: &impl #support::Connector,
                address: &str,
            ) -> ::core::result::Result<Self, #support::Status> {
                let address = #support::Address::parse(address)?;
                let channel = #support::Channel::connect(board.registry(), address, Self::descriptor())?;
                ::core::result::Result::Ok(Self {
                    channel: #support::Arc::new(channel),
                    options: #support::CallOptions::new(),
                })
            }

            /// Ends each call of this client after `timeout` at the latest, also those of methods that have a timeout of
            /// their own; without it other calls wait for as long as the service lives. Other clones keep theirs.
            #[must_use]
            pub fn with_timeout(mut self, timeout: #support::Duration) -> Self {
                self.options = self.options.timeout(timeout);
                self
            }

            /// Gives a client that makes its calls with these options, over the same connection.
            #[must_use]
            pub fn with(&self, options: #support::CallOptions) -> Self {
                Self { channel: #support::Arc::clone(&self.channel), options }
            }

            /// Begins a batch: calls that are announced to the service together, and whose replies are awaited behind the
            /// last of them.
            pub fn batch(&self) -> #batch<'_> {
                #batch { client: self, calls: #support::Batch::new(&self.channel) }
            }

            /// Gives the statistics of the calls made by this client and its clones.
            pub fn stats(&self) -> &#support::ServiceStats {
                self.channel.stats()
            }

            #(#calls)*
        }
    }
}

/// Writes what says how long a call may take and what travels with it.
fn write_terms(support: &Path, method: &Method, names: &Names) -> TokenStream {
    let span = method.span();
    let Names { metadata, timeout, .. } = names;
    let own_timeout = match method.settings.timeout {
        Some(own) => {
            let ns = own.as_nanos() as u64;
            quote!(::core::option::Option::Some(#support::Duration::from_nanos(#ns)))
        }
        None => quote!(::core::option::Option::None),
    };
    let terms = match method.settings.priority {
        Some(priority) => {
            let priority = write_priority(support, priority);
            quote_spanned! {span=>
                let #metadata = self.options.metadata_of(#priority);
                let #metadata = ::core::option::Option::Some(&*#metadata);
            }
        }
        None => quote_spanned!(span=> let #metadata = self.options.metadata();),
    };
    quote_spanned! {span=>
        let #timeout = self.options.timeout_or(#own_timeout);
        #terms
    }
}

pub(crate) fn write_priority(support: &Path, priority: Priority) -> TokenStream {
    let priority = match priority {
        Priority::Low => quote!(Low),
        Priority::Normal => quote!(Normal),
        Priority::High => quote!(High),
    };
    quote!(#support::Priority::#priority)
}

/// Writes the request of a call.
fn write_request(support: &Path, index: u16, method: &Method, names: &Names) -> TokenStream {
    let span = method.span();
    let Names { call, message, metadata, request, timeout, .. } = names;
    let elements: Vec<_> = method.args.iter().map(|arg| arg.sent(support, span)).collect();
    let tuple = tuple::of(&elements, span);
    quote_spanned! {span=>
        let #request = #tuple;
        let #message = #support::Message(&#request);
        let #call = #support::CallRequest {
            method: #support::MethodIndex(#index),
            timeout: #timeout,
            metadata: #metadata,
            form: #support::Form::Typed,
            message: &#message,
        };
    }
}

/// Writes the client's methods of one method.
fn write_calls(service: &Service, index: u16, method: &Method) -> TokenStream {
    match method.is_unary() {
        true => write_unary(service, index, method),
        false => write_streaming(service, index, method),
    }
}

/// Writes the three forms of a call without streams: a thread waits for the reply or reads it in place, a task waits.
fn write_unary(service: &Service, index: u16, method: &Method) -> TokenStream {
    let Method { ident, attrs, args, reply, .. } = method;
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let names = Names::new();
    let Names { call, place, read, made, .. } = &names;
    let (with_ident, async_ident) = (naming::with_variant(ident), naming::async_variant(ident));
    let params: Vec<_> = args
        .iter()
        .map(|arg| {
            let (ident, ty) = (&arg.ident, arg.client_type(None, span));
            quote!(#ident: #ty)
        })
        .collect();
    let error = method.client_error(support);
    let own = method.error.as_ref().map(|_| quote_spanned!(span=> .map_err(<#error>::from)));
    let terms = write_terms(support, method, &names);
    let request = write_request(support, index, method, &names);
    let local = (method.style() == Style::Plain)
        .then(|| local::write_call(service, index, method, &names.metadata, &names.timeout));
    let doc = format!("Calls [`{}::{ident}`] and waits for its reply.", service.ident);
    let with_doc = format!("Like [`{ident}`](Self::{ident}), but reads the reply in place, without a copy.");
    let async_doc = format!(
        "Like [`{ident}`](Self::{ident}), for a task. Dropped before the end, the call is given up and its handler told."
    );
    let separator = (!attrs.is_empty()).then(|| quote!(#[doc = ""]));
    let deprecated: Vec<_> = attrs.iter().filter(|attr| attr.path().is_ident("deprecated")).collect();
    let carry = quote_spanned! {span=>
        #terms
        #request
        self.channel.call(&#call, &mut #place)?;
        #place.into_value() #own
    };

    quote_spanned! {span=>
        #(#attrs)*
        #separator
        #[doc = #doc]
        ///
        /// # Errors
        /// The service's answer, or why the call did not reach it; see its outcome.
        #[allow(clippy::too_many_arguments, clippy::ptr_arg)]
        pub fn #ident(&self, #(#params),*) -> ::core::result::Result<#reply, #error> {
            #terms
            #local
            #request
            let mut #place = #support::Reply::<#reply>::new();
            self.channel.call(&#call, &mut #place)?;
            #place.into_value() #own
        }

        #[doc = #with_doc]
        ///
        /// # Errors
        /// The service's answer, or why the call did not reach it; see its outcome.
        #(#deprecated)*
        #[allow(clippy::too_many_arguments, clippy::ptr_arg)]
        pub fn #with_ident<#made>(
            &self,
            #(#params,)*
            #read: impl ::core::ops::FnOnce(&#support::Archived<#reply>) -> #made,
        ) -> ::core::result::Result<#made, #error> {
            let mut #place = #support::ReplyWith::<#reply, #made, _>::new(#read);
            #carry
        }

        #[doc = #async_doc]
        ///
        /// # Errors
        /// The service's answer, or why the call did not reach it; see its outcome.
        #(#deprecated)*
        #[allow(clippy::too_many_arguments, clippy::ptr_arg)]
        pub async fn #async_ident(&self, #(#params),*) -> ::core::result::Result<#reply, #error> {
            #terms
            #request
            self.channel.call_async::<#reply>(#call).await #own
        }
    }
}

/// Writes the call of a method with streams.
fn write_streaming(service: &Service, index: u16, method: &Method) -> TokenStream {
    let Method { ident, attrs, args, reply, .. } = method;
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let names = Names::new();
    let call = &names.call;
    let params = args.iter().map(|arg| {
        let (ident, ty) = (&arg.ident, arg.client_type(None, span));
        quote!(#ident: #ty)
    });
    let error = method.client_error(support);
    let own = method.error.as_ref().map(|_| quote_spanned!(span=> .map_err(<#error>::from)));
    let terms = write_terms(support, method, &names);
    let request = write_request(support, index, method, &names);
    let item = |direction| method.stream(direction).map(|stream| &stream.item);
    let (open, stream) = match (item(Direction::FromClient), item(Direction::ToClient)) {
        (Some(from), None) => (quote!(client_stream), quote!(ClientStream<#from, #reply, #error>)),
        (Some(from), Some(to)) => (quote!(both_ways), quote!(BothWays<#from, #to, #reply, #error>)),
        (None, to) => {
            let to = to.into_iter();
            (quote!(server_stream), quote!(ServerStream<#(#to,)* #reply, #error>))
        }
    };
    let doc = format!(
        "Calls [`{}::{ident}`]. Does not wait for the service; threads and tasks use what it gives.",
        service.ident
    );
    let separator = (!attrs.is_empty()).then(|| quote!(#[doc = ""]));

    quote_spanned! {span=>
        #(#attrs)*
        #separator
        #[doc = #doc]
        ///
        /// # Errors
        /// Why the call did not begin. Later failures come with the items, or with the reply.
        #[allow(clippy::too_many_arguments, clippy::ptr_arg)]
        pub fn #ident(
            &self,
            #(#params),*
        ) -> ::core::result::Result<#support::#stream, #error> {
            #terms
            #request
            self.channel.#open(&#call) #own
        }
    }
}
