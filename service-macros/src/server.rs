//! Writes the adapter that makes an implementation of the trait a handler.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::Path;

use crate::service::{Arg, Form, Method, Service};
use crate::{place, tuple};

impl Arg {
    /// Writes what the implementation is called with, given where the archived argument is.
    fn handler_argument(&self, support: &Path, place: &TokenStream, span: Span) -> TokenStream {
        match &self.form {
            Form::Value(ty) => quote_spanned!(span=> #support::deserialize::<#ty>(&#place)?),
            Form::InPlace(_) => quote_spanned!(span=> &#place),
            Form::Str(_) => quote_spanned!(span=> #place.as_str()),
            Form::Bytes(_) => quote_spanned!(span=> #place.as_slice()),
        }
    }
}

pub(crate) fn write(service: &Service) -> TokenStream {
    let Service { support, vis, ident, methods } = service;
    let client = service.client_ident();
    let server = format_ident!("{ident}Server");
    let struct_doc = format!("Answers calls with an implementation of [`{ident}`].");
    let new_doc = format!("Takes the implementation of [`{ident}`] that answers.");
    let name = server.to_string();
    // `__S` where types of the trait are in sight: one of them may be called `S`.
    let arms = methods.iter().enumerate().map(|(index, method)| write_arm(service, index as u16, method));

    quote! {
        #[doc = #struct_doc]
        #vis struct #server<S> {
            service: S,
        }

        impl<S: #ident> #server<S> {
            #[doc = #new_doc]
            pub fn new(service: S) -> Self {
                Self { service }
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
        }
    }
}

fn write_arm(service: &Service, index: u16, method: &Method) -> TokenStream {
    let Method { ident, args, reply, .. } = method;
    let trait_ident = &service.ident;
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let request_type = method.request_type();
    let arguments = args.iter().enumerate().map(|(index, arg)| {
        let place = tuple::place(&quote!(request), index, span);
        arg.handler_argument(support, &place, span)
    });
    let binding = (!args.is_empty()).then(|| quote!(let request =));
    quote_spanned! {span=>
        #index => {
            #binding #support::access_request::<#request_type>(ctx, request)?;
            // Whatever status the service's own code gives, for example that of a call of its own: it ran.
            let answer: #reply = <__S as #trait_ident>::#ident(&self.service, ctx, #(#arguments),*)
                .map_err(|status| status.with_outcome(#support::Outcome::Ran))?;
            reply.send(&#support::Message(&answer))
        }
    }
}
