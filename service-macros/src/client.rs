//! Writes the typed client.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Ident, Path};

use crate::service::{Arg, Form, Method, Service};
use crate::{naming, place, tuple};

impl Service {
    pub(crate) fn client_ident(&self) -> Ident {
        format_ident!("{}Client", self.ident)
    }
}

impl Arg {
    /// Writes the parameter of the client's method.
    fn client_param(&self) -> TokenStream {
        let ident = &self.ident;
        match &self.form {
            Form::InPlace(ty) => quote!(#ident: &#ty),
            Form::Value(ty) | Form::Str(ty) | Form::Bytes(ty) => quote!(#ident: #ty),
        }
    }

    /// Writes the element of the client's request tuple.
    fn sent(&self, support: &Path, span: Span) -> TokenStream {
        let Self { ident, form } = self;
        match form {
            Form::Value(_) => quote_spanned!(span=> #support::ByRef(&#ident)),
            Form::InPlace(_) => quote_spanned!(span=> #support::ByRef(#ident)),
            Form::Str(_) => quote_spanned!(span=> #support::Str(#ident)),
            Form::Bytes(_) => quote_spanned!(span=> #support::Bytes(#ident)),
        }
    }
}

pub(crate) fn write(service: &Service) -> TokenStream {
    let Service { support, vis, ident, methods } = service;
    let client = service.client_ident();
    let struct_doc = format!("Calls a service `{ident}`. Clones and threads share its connection.");
    let trait_name = naming::wire_name(ident);
    let descriptors = methods.iter().map(|method| write_descriptor(support, method));
    let checks = methods.iter().map(|method| method.checks(support));
    let calls = methods.iter().enumerate().map(|(index, method)| write_calls(service, index as u16, method));

    quote! {
        #(#checks)*

        #[doc = #struct_doc]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #vis struct #client {
            channel: #support::Arc<#support::Channel>,
            timeout: ::core::option::Option<#support::Duration>,
        }

        impl #client {
            /// Describes the methods, in the order of their indices.
            pub fn descriptor() -> &'static #support::ServiceDescriptor {
                static DESCRIPTOR: #support::OnceLock<#support::ServiceDescriptor> = #support::OnceLock::new();
                DESCRIPTOR.get_or_init(|| #support::ServiceDescriptor {
                    trait_name: ::std::string::String::from(#trait_name),
                    version: ::std::string::String::new(),
                    methods: ::std::vec![#(#descriptors),*],
                })
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
                    timeout: ::core::option::Option::None,
                })
            }

            /// Ends each call of this client after `timeout` at the latest; without it a call waits
            /// for as long as the service lives. Other clones keep theirs.
            #[must_use]
            pub fn with_timeout(mut self, timeout: #support::Duration) -> Self {
                self.timeout = ::core::option::Option::Some(timeout);
                self
            }

            /// Gives the statistics of the calls made by this client and its clones.
            pub fn stats(&self) -> &#support::ServiceStats {
                self.channel.stats()
            }

            #(#calls)*
        }
    }
}

fn write_descriptor(support: &Path, method: &Method) -> TokenStream {
    let name = naming::wire_name(&method.ident);
    let request = method.request_type();
    let reply = &method.reply;
    let span = method.span();
    let support = place::path_at(support, span);
    quote_spanned!(span=> #support::MethodDescriptor::of::<#request, #reply>(#name))
}

/// Writes the two client methods of one method: one gives the reply, one reads it in place.
fn write_calls(service: &Service, index: u16, method: &Method) -> TokenStream {
    let Method { ident, attrs, args, reply } = method;
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let with_ident = naming::with_variant(ident);
    let params: Vec<_> = args.iter().map(Arg::client_param).collect();
    let elements: Vec<_> = args.iter().map(|arg| arg.sent(support, span)).collect();
    let request = tuple::of(&elements, span);
    let doc = format!("Calls [`{}::{ident}`] and waits for its reply.", service.ident);
    let with_doc = format!("Like [`{ident}`](Self::{ident}), but reads the reply in place, without a copy.");
    let separator = (!attrs.is_empty()).then(|| quote!(#[doc = ""]));
    // Names of our own that no argument and no type of the trait has.
    let place = Ident::new("place", Span::mixed_site());
    let read = Ident::new("read", Span::mixed_site());
    let made = Ident::new("__Made", Span::mixed_site());
    let call = quote_spanned! {span=>
        self.channel.call(
            &#support::CallRequest::new(#support::MethodIndex(#index), self.timeout, &#support::Message(&#request)),
            &mut #place,
        )?;
        #place.into_value()
    };

    quote_spanned! {span=>
        #(#attrs)*
        #separator
        #[doc = #doc]
        ///
        /// # Errors
        /// The status that the service answered, or why the call did not reach it; see its outcome.
        #[allow(clippy::too_many_arguments, clippy::ptr_arg)]
        pub fn #ident(&self, #(#params),*) -> ::core::result::Result<#reply, #support::Status> {
            let mut #place = #support::Reply::<#reply>::new();
            #call
        }

        #[doc = #with_doc]
        ///
        /// # Errors
        /// The status that the service answered, or why the call did not reach it; see its outcome.
        #[allow(clippy::too_many_arguments, clippy::ptr_arg)]
        pub fn #with_ident<#made>(
            &self,
            #(#params,)*
            #read: impl ::core::ops::FnOnce(&#support::Archived<#reply>) -> #made,
        ) -> ::core::result::Result<#made, #support::Status> {
            let mut #place = #support::ReplyWith::<#reply, #made, _>::new(#read);
            #call
        }
    }
}
