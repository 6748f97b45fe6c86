//! Writes the client's batches: the methods without streams once more, to be sent together.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Ident, Lifetime, Path};

use crate::arguments::{Arg, Form};
use crate::client::write_priority;
use crate::service::{Method, Service};
use crate::{place, tuple};

impl Service {
    pub(crate) fn batch_ident(&self) -> Ident {
        format_ident!("{}Batch", self.ident)
    }
}

impl Arg {
    /// Writes the element of a request that is kept until it is sent.
    fn kept(&self, support: &Path, span: Span) -> TokenStream {
        let Self { ident, form } = self;
        match form {
            Form::Value(_) => quote_spanned!(span=> #ident),
            Form::InPlace(_) => quote_spanned!(span=> #support::ByRef(#ident)),
            Form::Str => quote_spanned!(span=> #support::Str(#ident)),
            Form::Bytes => quote_spanned!(span=> #support::Bytes(#ident)),
        }
    }
}

pub(crate) fn write(service: &Service) -> TokenStream {
    let Service { support, vis, ident, methods, .. } = service;
    let (client, batch) = (service.client_ident(), service.batch_ident());
    let doc = format!("Calls of a service `{ident}` that are sent together; see [`{client}::batch`].");
    let calls = methods.iter().enumerate().filter(|(_, method)| method.is_unary());
    let calls = calls.map(|(index, method)| write_call(service, index as u16, method));
    quote! {
        #[doc = #doc]
        ///
        /// Each method takes a call into the batch and gives what its reply is asked for by. Nothing is sent before
        /// `send_batch`.
        #[derive(::core::fmt::Debug)]
        #[must_use = "a batch that is not sent calls nothing"]
        #vis struct #batch<'__b> {
            client: &'__b #client,
            calls: #support::Batch<'__b>,
        }

        #[allow(dead_code)]
        impl<'__b> #batch<'__b> {
            #(#calls)*

            /// Sends the calls, announced to the service together, and waits for none of their replies. Blocks only while
            /// there is no room for them.
            ///
            /// A call that cannot be sent fails by itself, when its reply is asked for.
            pub fn send_batch(self) -> #support::Sent {
                self.calls.send()
            }
        }
    }
}

fn write_call(service: &Service, index: u16, method: &Method) -> TokenStream {
    let Method { ident, attrs, args, reply, settings, .. } = method;
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let lifetime: Lifetime = syn::parse_quote!('__b);
    let params = args.iter().map(|arg| {
        let (ident, ty) = (&arg.ident, arg.client_type(Some(&lifetime), span));
        quote!(#ident: #ty)
    });
    let error = method.client_error(support);
    let elements: Vec<_> = args.iter().map(|arg| arg.kept(support, span)).collect();
    let request = tuple::of(&elements, span);
    let timeout = match settings.timeout {
        Some(own) => {
            let ns = own.as_nanos() as u64;
            quote!(::core::option::Option::Some(#support::Duration::from_nanos(#ns)))
        }
        None => quote!(::core::option::Option::None),
    };
    let metadata = match settings.priority {
        Some(priority) => {
            let priority = write_priority(support, priority);
            quote!(::core::option::Option::Some(self.client.options.metadata_of(#priority)))
        }
        None => quote!(self.client.options.metadata().map(::std::borrow::Cow::Borrowed)),
    };
    let separator = (!attrs.is_empty()).then(|| quote!(#[doc = ""]));
    let doc = format!("Takes a call of [`{}::{ident}`] into the batch.", service.ident);
    quote_spanned! {span=>
        #(#attrs)*
        #separator
        #[doc = #doc]
        #[allow(clippy::too_many_arguments, clippy::ptr_arg)]
        pub fn #ident(&mut self, #(#params),*) -> #support::Queued<#reply, #error> {
            self.calls.add(
                #support::MethodIndex(#index),
                self.client.options.timeout_or(#timeout),
                #metadata,
                #request,
            )
        }
    }
}
