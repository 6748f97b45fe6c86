//! Writes how methods are called by values that describe themselves.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Ident, Path};

use crate::arguments::{Arg, Form};
use crate::local::Lent;
use crate::service::{Method, Service, Style};
use crate::{place, server};

impl Service {
    /// Says whether a method can be called so, if its types can.
    pub(crate) fn may_be_dynamic(&self, method: &Method) -> bool {
        !self.typed_only && method.is_unary() && method.settings.batch.is_none()
    }
}

/// Writes the question whether all types of a method know serde.
pub(crate) fn write_is_dynamic(support: &Path, method: &Method) -> TokenStream {
    let reply = &method.reply;
    let reads = method.args.iter().filter_map(|arg| match &arg.form {
        Form::Value(ty) | Form::InPlace(ty) => Some(quote!(#support::Dynamic::<#ty>::READS)),
        Form::Str | Form::Bytes => None,
    });
    quote!({
        #[allow(unused_imports)]
        use #support::TypedOnly as _;
        #support::Dynamic::<#reply>::WRITES #(&& #reads)*
    })
}

/// Writes the handler's `call_dynamic`.
pub(crate) fn write(service: &Service) -> TokenStream {
    let support = &service.support;
    let client = service.client_ident();
    let indexed = service.methods.iter().enumerate().map(|(index, method)| (index as u16, method));
    let plain = indexed.filter(|(_, method)| service.may_be_dynamic(method) && method.style() == Style::Plain);
    let arms = plain.map(|(index, method)| write_arm(service, index, method));
    quote! {
        #[allow(deprecated, unused_imports, unused_variables, clippy::let_unit_value, clippy::match_single_binding)]
        fn call_dynamic(
            &self,
            ctx: &#support::Context<'_>,
            method: #support::MethodIndex,
            request: &[u8],
            reply: &mut dyn #support::ReplySink,
        ) -> ::core::result::Result<(), #support::Status> {
            use #support::TypedOnly as _;
            match method.0 {
                #(#arms)*
                _ => ::core::result::Result::Err(#support::not_dynamic(#client::descriptor(), method)),
            }
        }
    }
}

fn write_arm(service: &Service, index: u16, method: &Method) -> TokenStream {
    let reply = &method.reply;
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let call = write_call(service, method, &quote!(ctx), &quote!(request));
    quote_spanned! {span=>
        #index => {
            let answer: #reply = { #call }?;
            reply.send(&#support::Answer(#support::Dynamic::<#reply>::write(&answer)?))
        }
    }
}

/// Writes a call of the implementation by values, where `method` is the method's index.
pub(crate) fn write_call(service: &Service, method: &Method, ctx: &TokenStream, request: &TokenStream) -> TokenStream {
    let Method { ident, args, is_async, .. } = method;
    let trait_ident = &service.ident;
    let client = service.client_ident();
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let failure = server::write_failure(support, method);
    let awaited = is_async.then(|| quote_spanned!(span=> .await));
    let count = args.len();
    let names: Vec<&Ident> = args.iter().map(|arg| &arg.ident).collect();
    let read = args.iter().map(|Arg { ident, form }| {
        let made = match form {
            Form::Value(ty) | Form::InPlace(ty) => quote_spanned!(span=> #support::Dynamic::<#ty>::read(#ident)?),
            Form::Str => quote_spanned!(span=> #ident.text()?),
            Form::Bytes => quote_spanned!(span=> #ident.bytes()?),
        };
        quote_spanned!(span=> let #ident = #made;)
    });
    let archived = args.iter().filter_map(|arg| arg.in_archive(support, span, Lent::Owned));
    let given = args.iter().map(|Arg { ident, form }| match form {
        Form::Value(_) | Form::InPlace(_) => quote!(#ident),
        Form::Str | Form::Bytes => quote!(&#ident),
    });
    // The context and the request have names that an argument may have too.
    quote_spanned! {span=>
        let __ctx = #ctx;
        let [#(#names),*] = #support::arguments::<#count>(#client::descriptor(), method, #request)?;
        #(#read)*
        #(#archived)*
        <__S as #trait_ident>::#ident(&self.service, __ctx, #(#given),*) #awaited #failure
    }
}
