//! Writes the mock: an implementation of the trait made of closures, for the tests of those who call the service.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::Lifetime;

use crate::arguments::Arg;
use crate::service::{Direction, Method, Service};
use crate::{naming, place};

pub(crate) fn write(service: &Service) -> TokenStream {
    let Service { vis, ident, methods, .. } = service;
    let mock = format_ident!("{ident}Mock");
    let name = mock.to_string();
    let doc = format!(
        "Answers as [`{ident}`] by a closure for each method, for tests. A method without one answers `Unimplemented`."
    );
    let fields: Vec<_> =
        methods.iter().map(|method| format_ident!("on_{}", naming::wire_name(&method.ident))).collect();
    let types = methods.iter().map(|method| Closure::of(service, method).boxed(service, method));
    let setters = methods.iter().map(|method| write_setter(service, method));
    let answers = methods.iter().map(|method| write_answer(service, method));
    quote! {
        #[doc = #doc]
        #[derive(::core::default::Default)]
        #[allow(clippy::type_complexity)]
        #vis struct #mock {
            #(#fields: ::core::option::Option<#types>,)*
        }

        #[allow(dead_code, clippy::type_complexity)]
        impl #mock {
            /// Has no closures yet.
            pub fn new() -> Self {
                Self::default()
            }

            #(#setters)*
        }

        #[allow(deprecated, clippy::too_many_arguments)]
        impl #ident for #mock {
            #(#answers)*
        }

        impl ::core::fmt::Debug for #mock {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#name).finish_non_exhaustive()
            }
        }
    }
}

/// The closure of one method.
struct Closure {
    /// `Fn(...) -> ...` without its bounds.
    signature: TokenStream,
}

impl Closure {
    fn of(service: &Service, method: &Method) -> Self {
        let span = method.span();
        let support = &place::path_at(&service.support, span);
        // Only a task that has streams needs a future: everything else is answered at once.
        let lifetime: Option<Lifetime> = is_future(method).then(|| syn::parse_quote!('__a));
        let mut inputs: Vec<_> = method.args.iter().map(|arg| input(support, method, arg, lifetime.as_ref())).collect();
        inputs.extend(method.streams.iter().map(|stream| {
            let item = &stream.item;
            match stream.direction {
                Direction::FromClient => quote!(#support::Incoming<#item>),
                Direction::ToClient => quote!(#support::Outgoing<#item>),
            }
        }));
        let answer = answer_type(support, method);
        let signature = match (&lifetime, method.settings.batch.is_some()) {
            (Some(_), _) => quote_spanned! {span=>
                for<'__a> Fn(&'__a #support::Context<'__a>, #(#inputs),*) -> #support::BoxFuture<'__a, #answer>
            },
            (None, true) => quote_spanned!(span=> Fn(&[#support::Context<'_>], #(#inputs),*) -> #answer),
            (None, false) => quote_spanned!(span=> Fn(&#support::Context<'_>, #(#inputs),*) -> #answer),
        };
        Self { signature: quote!(#signature + ::core::marker::Send + ::core::marker::Sync) }
    }

    fn boxed(&self, service: &Service, method: &Method) -> TokenStream {
        let support = &place::path_at(&service.support, method.span());
        let signature = &self.signature;
        quote!(#support::Box<dyn #signature>)
    }
}

fn is_future(method: &Method) -> bool {
    method.is_async && !method.is_unary()
}

fn input(support: &syn::Path, method: &Method, arg: &Arg, lifetime: Option<&Lifetime>) -> TokenStream {
    match method.settings.batch {
        Some(_) => arg.column_type(support, method.span()),
        None => arg.handler_type(support, lifetime, method.span()),
    }
}

/// What the trait's method answers.
fn answer_type(support: &syn::Path, method: &Method) -> TokenStream {
    let reply = &method.reply;
    let error = match &method.error {
        Some(error) => quote!(#error),
        None => quote!(#support::Status),
    };
    match method.settings.batch {
        Some(_) => quote!(::std::vec::Vec<::core::result::Result<#reply, #error>>),
        None => quote!(::core::result::Result<#reply, #error>),
    }
}

fn write_setter(service: &Service, method: &Method) -> TokenStream {
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let name = format_ident!("on_{}", naming::wire_name(&method.ident), span = span);
    let signature = Closure::of(service, method).signature;
    let kind = if is_future(method) { "a boxed future" } else { "the answer" };
    let doc = format!("Answers `{}` by a closure that gives {kind}.", naming::wire_name(&method.ident));
    quote_spanned! {span=>
        #[doc = #doc]
        #[must_use]
        pub fn #name(mut self, answer: impl #signature + 'static) -> Self {
            self.#name = ::core::option::Option::Some(#support::Box::new(answer));
            self
        }
    }
}

fn write_answer(service: &Service, method: &Method) -> TokenStream {
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let (ident, field) = (&method.ident, format_ident!("on_{}", naming::wire_name(&method.ident)));
    let name = naming::wire_name(ident);
    let params = method.args.iter().map(|arg| {
        let (ident, ty) = (&arg.ident, input(support, method, arg, None));
        quote!(#ident: #ty)
    });
    let streams = method.streams.iter().map(|stream| {
        let (ident, item) = (&stream.ident, &stream.item);
        match stream.direction {
            Direction::FromClient => quote!(#ident: #support::Incoming<#item>),
            Direction::ToClient => quote!(#ident: #support::Outgoing<#item>),
        }
    });
    let given: Vec<_> =
        method.args.iter().map(|arg| &arg.ident).chain(method.streams.iter().map(|stream| &stream.ident)).collect();
    let asyncness = method.is_async.then(|| quote!(async));
    let awaited = is_future(method).then(|| quote!(.await));
    let answer = answer_type(support, method);
    let ctx = match method.settings.batch {
        Some(_) => quote!(&[#support::Context<'_>]),
        None => quote!(&#support::Context<'_>),
    };
    let without = match (method.settings.batch.is_some(), method.error.is_some()) {
        (true, _) => quote!(::std::vec::Vec::new()),
        (false, false) => quote!(::core::result::Result::Err(#support::Status::unimplemented(::std::format!(
            "the mock has no closure for `{}`", #name
        )))),
        // An error of the service's own cannot be made up.
        (false, true) => quote!(::core::panic!("the mock has no closure for `{}`", #name)),
    };
    quote_spanned! {span=>
        #asyncness fn #ident(&self, __ctx: #ctx, #(#params,)* #(#streams),*) -> #answer {
            match &self.#field {
                ::core::option::Option::Some(__answer) => __answer(__ctx, #(#given),*) #awaited,
                ::core::option::Option::None => #without,
            }
        }
    }
}
