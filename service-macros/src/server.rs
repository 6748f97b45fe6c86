//! Writes the adapter that makes an implementation of the trait a handler.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::Path;

use crate::arguments::{Arg, Form};
use crate::service::{Direction, Method, Service, Style};
use crate::{batched, dynamic, place, tuple};

impl Arg {
    /// Writes what the implementation is called with, given where the archived argument is.
    pub(crate) fn handler_argument(&self, support: &Path, place: &TokenStream, span: Span) -> TokenStream {
        match &self.form {
            Form::Value(ty) => quote_spanned!(span=> #support::deserialize::<#ty>(&#place)?),
            Form::InPlace(_) => quote_spanned!(span=> &#place),
            Form::Str => quote_spanned!(span=> #place.as_str()),
            Form::Bytes => quote_spanned!(span=> #place.as_slice()),
        }
    }
}

pub(crate) fn write(service: &Service) -> TokenStream {
    let Service { support, vis, ident, methods, .. } = service;
    let client = service.client_ident();
    let local = service.local_ident();
    let server = format_ident!("{ident}Server");
    let struct_doc = format!("Answers calls with an implementation of [`{ident}`].");
    let new_doc = format!("Takes the implementation of [`{ident}`] that answers.");
    let name = server.to_string();
    let indexed = || methods.iter().enumerate().map(|(index, method)| (index as u16, method));
    // `__S` where types of the trait are in sight: one of them may be called `S`.
    let arms = indexed()
        .filter(|(_, method)| method.style() == Style::Plain)
        .map(|(index, method)| write_plain(service, index, method));
    let started = write_started(service);
    let dynamic = dynamic::write(service);
    let batchers = batched::write_batchers(service);
    let (batcher_fields, batcher_values): (Vec<_>, Vec<_>) = batchers.into_iter().unzip();

    quote! {
        #[doc = #struct_doc]
        #vis struct #server<S> {
            service: #support::Arc<S>,
            /// The same, for typed clients of this program.
            local: #support::Arc<dyn #local>,
            #(#batcher_fields,)*
        }

        impl<S: #ident> #server<S> {
            #[doc = #new_doc]
            pub fn new(service: S) -> Self {
                let service = #support::Arc::new(service);
                let local = #support::Arc::<S>::clone(&service);
                Self { service, local, #(#batcher_values,)* }
            }
        }

        impl<S> ::core::fmt::Debug for #server<S> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#name).finish_non_exhaustive()
            }
        }

        impl<__S: #ident> #support::Handler for #server<__S> {
            fn descriptor(&self) -> &#support::ServiceDescriptor {
                #client::descriptor()
            }

            #[allow(deprecated, unused_variables, clippy::let_unit_value, clippy::match_single_binding)]
            fn call(
                &self,
                ctx: &#support::Context<'_>,
                method: #support::MethodIndex,
                request: &[u8],
                reply: &mut dyn #support::ReplySink,
            ) -> ::core::result::Result<(), #support::Status> {
                match method.0 {
                    #(#arms)*
                    _ => ::core::result::Result::Err(#client::descriptor().unknown_method(method)),
                }
            }

            #dynamic

            #started

            fn local(&self) -> ::core::option::Option<&dyn ::core::any::Any> {
                ::core::option::Option::Some(&self.local)
            }
        }
    }
}

/// Writes the rest of a call to the implementation: what becomes of its failure.
pub(crate) fn write_failure(support: &Path, method: &Method) -> TokenStream {
    let span = method.span();
    match &method.error {
        // Whatever status the service's own code gives, for example that of a call of its own: it ran.
        None => quote_spanned!(span=> .map_err(|status| status.with_outcome(#support::Outcome::Ran))),
        Some(_) => quote_spanned!(span=> .map_err(|error| #support::status_of(&error))),
    }
}

/// Writes what the implementation is called with behind the context, in a place where `request` is the archived tuple.
fn write_arguments(support: &Path, method: &Method) -> Vec<TokenStream> {
    let span = method.span();
    let argument = |(index, arg): (usize, &Arg)| {
        let place = tuple::place(&quote!(request), index, span);
        arg.handler_argument(support, &place, span)
    };
    method.args.iter().enumerate().map(argument).collect()
}

/// Writes the arm of a method that a worker runs.
fn write_plain(service: &Service, index: u16, method: &Method) -> TokenStream {
    let Method { ident, args, reply, .. } = method;
    let trait_ident = &service.ident;
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let request_type = method.request_type();
    let arguments = write_arguments(support, method);
    let failure = write_failure(support, method);
    let binding = (!args.is_empty()).then(|| quote!(let request =));
    quote_spanned! {span=>
        #index => {
            #binding #support::access_request::<#request_type>(ctx, request)?;
            let answer: #reply = <__S as #trait_ident>::#ident(&self.service, ctx, #(#arguments),*) #failure?;
            reply.send(&#support::Message(&answer))
        }
    }
}

/// Writes which methods are no plain ones, and how they run; nothing if there are none.
fn write_started(service: &Service) -> TokenStream {
    let Service { support, methods, .. } = service;
    let indexed = methods.iter().enumerate().map(|(index, method)| (index as u16, method));
    let started: Vec<_> = indexed.filter(|(_, method)| method.style() != Style::Plain).collect();
    if started.is_empty() {
        return TokenStream::new();
    }
    let styles = started.iter().map(|(index, method)| match method.style() {
        Style::Plain => quote!(#index => #support::Style::Plain,),
        Style::Task => quote!(#index => #support::Style::Task,),
        Style::Thread => quote!(#index => #support::Style::Thread,),
    });
    let arms = started.iter().map(|(index, method)| match method.settings.batch {
        None => write_start(service, *index, method),
        Some(_) => batched::write_start(service, *index, method),
    });
    let client = service.client_ident();
    quote! {
        fn style(&self, method: #support::MethodIndex) -> #support::Style {
            match method.0 {
                #(#styles)*
                _ => #support::Style::Plain,
            }
        }

        #[allow(deprecated, unused_variables, clippy::let_unit_value)]
        fn start(self: #support::Arc<Self>, call: #support::Box<dyn #support::ServerCall>) -> #support::CallFuture {
            match call.method().0 {
                #(#arms)*
                _ => #support::Box::pin(async move {
                    let status = #client::descriptor().unknown_method(call.method());
                    call.fail(status);
                }),
            }
        }
    }
}

/// Writes the arm of a method that runs as a task, or on a thread of its own.
fn write_start(service: &Service, index: u16, method: &Method) -> TokenStream {
    let Method { ident, args, streams, reply, is_async, .. } = method;
    let trait_ident = &service.ident;
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let request_type = method.request_type();
    let arguments = write_arguments(support, method);
    let failure = write_failure(support, method);
    let binding = (!args.is_empty()).then(|| quote!(let request =));
    let awaited = is_async.then(|| quote_spanned!(span=> .await));

    let is_lent = method.stream(Direction::ToClient).is_some();
    let lender = is_lent.then(|| quote_spanned!(span=> let lender = #support::Lender::new();));
    let taken = streams.iter().map(|stream| {
        let item = &stream.item;
        match stream.direction {
            Direction::FromClient => quote_spanned!(span=> let incoming = #support::incoming::<#item>(&mut *call)?;),
            Direction::ToClient => quote_spanned!(span=> let outgoing = lender.outgoing::<#item>(&mut *call)?;),
        }
    });
    let given = streams.iter().map(|stream| match stream.direction {
        Direction::FromClient => quote!(incoming),
        Direction::ToClient => quote!(outgoing),
    });
    let is_mut = (!streams.is_empty()).then(|| quote!(mut));
    let answered = match is_lent {
        true => quote_spanned!(span=> lender.answer(call, answer);),
        false => quote_spanned!(span=> #support::answer(call, answer);),
    };
    let typed = quote_spanned! {span=>
        #(#taken)*
        let ctx = call.context();
        #binding #support::access_request::<#request_type>(&ctx, call.request())?;
        <__S as #trait_ident>::#ident(&self.service, &ctx, #(#arguments,)* #(#given),*) #awaited #failure
    };
    let client = service.client_ident();
    if !service.may_be_dynamic(method) {
        return quote_spanned! {span=>
            #index => #support::Box::pin(async move {
                let #is_mut call = call;
                #lender
                let answer: ::core::result::Result<#reply, #support::Status> = async {
                    #support::is_dynamic(#client::descriptor(), &*call)?;
                    #typed
                }.await;
                #answered
            }),
        };
    }
    let by_values = dynamic::write_call(service, method, &quote!(&call.context()), &quote!(call.request()));
    quote_spanned! {span=>
        #index => #support::Box::pin(async move {
            #[allow(unused_imports)]
            use #support::TypedOnly as _;
            let is_dynamic = match #support::is_dynamic(#client::descriptor(), &*call) {
                ::core::result::Result::Ok(is_dynamic) => is_dynamic,
                ::core::result::Result::Err(status) => return call.fail(status),
            };
            if is_dynamic {
                let answer: ::core::result::Result<#reply, #support::Status> = async {
                    let method = call.method();
                    #by_values
                }.await;
                let answer = match &answer {
                    ::core::result::Result::Ok(answer) => #support::Dynamic::<#reply>::write(answer),
                    ::core::result::Result::Err(status) => return call.fail(::core::clone::Clone::clone(status)),
                };
                return match answer {
                    ::core::result::Result::Ok(answer) => call.reply(&#support::Answer(answer)),
                    ::core::result::Result::Err(status) => call.fail(status),
                };
            }
            let answer: ::core::result::Result<#reply, #support::Status> = async { #typed }.await;
            #answered
        }),
    }
}
