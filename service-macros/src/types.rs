//! Writes the types of messages, and the demands on the types they are made of.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::Path;

use crate::service::{Arg, Form, Method};
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

    /// Writes code that compiles only if each type of the method is a message type. It comes before
    /// all other code, so that the compiler first points at the type itself.
    pub(crate) fn checks(&self, support: &Path) -> TokenStream {
        let reply = &self.reply;
        let args = self.args.iter().filter_map(|arg| match &arg.form {
            Form::Value(ty) => Some(quote!(const _: fn() = #support::by_value::<#ty>;)),
            Form::InPlace(ty) => Some(quote!(const _: fn() = #support::in_place::<#ty>;)),
            Form::Str(_) | Form::Bytes(_) => None,
        });
        quote! {
            #(#args)*
            const _: fn() = #support::by_value::<#reply>;
        }
    }
}

impl Arg {
    fn owned_type(&self, span: Span) -> TokenStream {
        match &self.form {
            Form::Value(ty) | Form::InPlace(ty) => quote!(#ty),
            Form::Str(_) => quote_spanned!(span=> ::std::string::String),
            Form::Bytes(_) => quote_spanned!(span=> ::std::vec::Vec<u8>),
        }
    }
}
