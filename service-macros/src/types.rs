//! Writes the types of messages, and the demands on the types they are made of.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::Path;

use crate::arguments::{Arg, Form};
use crate::service::Method;
use crate::{place, tuple};

impl Method {
    /// Gives the place of the code that is written for the method.
    pub(crate) fn span(&self) -> Span {
        place::at(self.ident.span())
    }

    /// Writes the tuple of the owned arguments: the request's type for descriptors and servers.
    pub(crate) fn request_type(&self) -> TokenStream {
        let owned: Vec<_> = self.args.iter().map(|arg| arg.owned_type(self.span())).collect();
        tuple::of(&owned, self.span())
    }

    /// Writes the type of what the client's methods fail with.
    pub(crate) fn client_error(&self, support: &Path) -> TokenStream {
        match &self.error {
            Some(error) => quote!(#support::CallError<#error>),
            None => quote!(#support::Status),
        }
    }

    /// Writes code that compiles only if each type of the method is a message type. It comes before
    /// all other code, so that the compiler first points at the type itself.
    pub(crate) fn checks(&self, support: &Path) -> TokenStream {
        let reply = &self.reply;
        let args = self.args.iter().filter_map(|arg| match &arg.form {
            Form::Value(ty) => Some(quote!(const _: fn() = #support::by_value::<#ty>;)),
            Form::InPlace(ty) => Some(quote!(const _: fn() = #support::in_place::<#ty>;)),
            Form::Str | Form::Bytes => None,
        });
        let items = self.streams.iter().map(|stream| {
            let item = &stream.item;
            quote!(const _: fn() = #support::by_value::<#item>;)
        });
        let error = self.error.iter().map(|error| quote!(const _: fn() = #support::own_error::<#error>;));
        quote! {
            #(#args)*
            #(#items)*
            const _: fn() = #support::by_value::<#reply>;
            #(#error)*
        }
    }
}

impl Arg {
    fn owned_type(&self, span: Span) -> TokenStream {
        match &self.form {
            Form::Value(ty) | Form::InPlace(ty) => quote!(#ty),
            Form::Str => quote_spanned!(span=> ::std::string::String),
            Form::Bytes => quote_spanned!(span=> ::std::vec::Vec<u8>),
        }
    }

    /// Writes the type in which a handler gets the argument.
    pub(crate) fn handler_type(&self, support: &Path, lifetime: Option<&syn::Lifetime>, span: Span) -> TokenStream {
        match &self.form {
            Form::Value(ty) => quote!(#ty),
            Form::InPlace(ty) => quote_spanned!(span=> &#lifetime #support::Archived<#ty>),
            Form::Str => quote_spanned!(span=> &#lifetime str),
            Form::Bytes => quote_spanned!(span=> &#lifetime [u8]),
        }
    }

    /// Writes the type in which a client takes the argument.
    pub(crate) fn client_type(&self, lifetime: Option<&syn::Lifetime>, span: Span) -> TokenStream {
        match &self.form {
            Form::Value(ty) => quote!(#ty),
            Form::InPlace(ty) => quote_spanned!(span=> &#lifetime #ty),
            Form::Str => quote_spanned!(span=> &#lifetime str),
            Form::Bytes => quote_spanned!(span=> &#lifetime [u8]),
        }
    }

    /// Writes the type in which a batch gets the argument of all its calls.
    pub(crate) fn column_type(&self, support: &Path, span: Span) -> TokenStream {
        match &self.form {
            Form::Value(ty) => quote_spanned!(span=> ::std::vec::Vec<#ty>),
            Form::InPlace(ty) => quote_spanned!(span=> &[&#support::Archived<#ty>]),
            Form::Str => quote_spanned!(span=> &[&str]),
            Form::Bytes => quote_spanned!(span=> &[&[u8]]),
        }
    }
}
