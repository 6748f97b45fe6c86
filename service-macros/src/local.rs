//! Writes the short way from a client to an implementation in the same program: plain methods, by a trait that any
//! implementation has and that knows no type of it.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Ident, Path};

use crate::arguments::{Arg, Form};
use crate::service::{Method, Service, Style};
use crate::{place, server};

impl Service {
    pub(crate) fn local_ident(&self) -> Ident {
        format_ident!("__{}Local", self.ident)
    }
}

/// Who has an argument that is read in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lent {
    /// The client's caller, who lends it.
    ByClient,
    /// Code written before.
    Owned,
}

impl Arg {
    /// Writes the argument into an archive if the handler reads it in place.
    pub(crate) fn in_archive(&self, support: &Path, span: Span, lent: Lent) -> Option<TokenStream> {
        let Self { ident, form: Form::InPlace(ty) } = self else { return None };
        let borrow = (lent == Lent::Owned).then(|| quote!(&));
        Some(quote_spanned! {span=>
            let #ident = #support::InArchive::<#ty>::of(#borrow #ident)?;
            let #ident = #ident.get()?;
        })
    }
}

/// The name is another one than the trait's own: both may be in sight.
fn local_method(method: &Method) -> Ident {
    format_ident!("__local_{}", crate::naming::wire_name(&method.ident), span = method.span())
}

fn plain(service: &Service) -> impl Iterator<Item = &Method> {
    service.methods.iter().filter(|method| method.style() == Style::Plain)
}

pub(crate) fn write(service: &Service) -> TokenStream {
    let Service { vis, ident, .. } = service;
    let local = service.local_ident();
    let signature = |method: &Method| {
        let span = method.span();
        let support = &place::path_at(&service.support, span);
        let (name, reply) = (local_method(method), &method.reply);
        let params = method.args.iter().map(|arg| {
            let (ident, ty) = (&arg.ident, arg.handler_type(support, None, span));
            quote!(#ident: #ty)
        });
        quote_spanned! {span=>
            fn #name(
                &self,
                __ctx: &#support::Context<'_>,
                #(#params),*
            ) -> ::core::result::Result<#reply, #support::Status>
        }
    };
    let declared = plain(service).map(&signature);
    let written = plain(service).map(|method| {
        let span = method.span();
        let support = &place::path_at(&service.support, span);
        let (signature, name) = (signature(method), &method.ident);
        let args = method.args.iter().map(|arg| &arg.ident);
        let ran = server::write_failure(support, method);
        quote_spanned! {span=>
            #signature {
                <__S as #ident>::#name(self, __ctx, #(#args),*) #ran
            }
        }
    });
    quote! {
        #[doc(hidden)]
        #[allow(clippy::too_many_arguments)]
        #vis trait #local: ::core::marker::Send + ::core::marker::Sync {
            #(#declared;)*
        }

        #[allow(deprecated, clippy::too_many_arguments)]
        impl<__S: #ident> #local for __S {
            #(#written)*
        }
    }
}

/// Writes the client's way to a local handler: it returns, or lets the call go on through the transport.
pub(crate) fn write_call(
    service: &Service,
    index: u16,
    method: &Method,
    metadata: &Ident,
    timeout: &Ident,
) -> TokenStream {
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let (local, name) = (service.local_ident(), local_method(method));
    let args = method.args.iter().map(|arg| &arg.ident);
    let own = method.error.as_ref().map(|_| {
        let error = method.client_error(support);
        quote_spanned!(span=> .map_err(<#error>::from))
    });
    let archived = method.args.iter().filter_map(|arg| arg.in_archive(support, span, Lent::ByClient));
    quote_spanned! {span=>
        if let ::core::option::Option::Some(__local) = self.channel.local_call::<#support::Arc<dyn #local>>(
            #support::MethodIndex(#index),
            #timeout,
            #metadata,
        )? {
            return __local.run(|__service, __ctx| {
                #(#archived)*
                __service.#name(__ctx, #(#args),*)
            }) #own;
        }
    }
}
