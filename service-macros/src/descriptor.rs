//! Writes what a service says of itself.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};

use crate::service::{Direction, Method, Service};
use crate::{dynamic, naming, place};

/// Writes the body of the client's `descriptor`.
pub(crate) fn write(service: &Service) -> TokenStream {
    let support = &service.support;
    let trait_name = naming::wire_name(&service.ident);
    let version = service.version.iter();
    let methods = service.methods.iter().map(|method| write_method(service, method));
    quote! {
        static DESCRIPTOR: #support::OnceLock<#support::ServiceDescriptor> = #support::OnceLock::new();
        DESCRIPTOR.get_or_init(|| #support::ServiceDescriptor {
            trait_name: ::std::string::String::from(#trait_name),
            version: ::std::string::String::from(::core::concat!(#(#version)*)),
            methods: ::std::vec![#(#methods),*],
        })
    }
}

fn write_method(service: &Service, method: &Method) -> TokenStream {
    let name = naming::wire_name(&method.ident);
    let (request, reply) = (method.request_type(), &method.reply);
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let settings = &method.settings;

    let mut parts = Vec::new();
    let items = |direction| {
        let item = &method.stream(direction)?.item;
        Some(quote_spanned!(span=> ::core::option::Option::Some(#support::TypeInfo::of::<#item>())))
    };
    let (from_client, to_client) = (items(Direction::FromClient), items(Direction::ToClient));
    let shape = match (&from_client, &to_client) {
        (None, None) => None,
        (None, Some(_)) => Some(quote!(ServerStream)),
        (Some(_), None) => Some(quote!(ClientStream)),
        (Some(_), Some(_)) => Some(quote!(BothWays)),
    };
    parts.extend(shape.map(|shape| quote!(shape: #support::Shape::#shape,)));
    parts.extend(from_client.map(|items| quote!(client_items: #items,)));
    parts.extend(to_client.map(|items| quote!(server_items: #items,)));
    if let Some(error) = &method.error {
        parts.push(quote!(error: ::core::option::Option::Some(#support::TypeInfo::of::<#error>()),));
    }
    if service.may_be_dynamic(method) {
        let is_dynamic = dynamic::write_is_dynamic(support, method);
        parts.push(quote!(dynamic: #is_dynamic,));
    }
    if settings.idempotent {
        parts.push(quote!(idempotent: true,));
    }
    if !method.args.is_empty() {
        let names = method.args.iter().map(|arg| naming::wire_name(&arg.ident));
        parts.push(quote!(arguments: ::std::vec![#(::std::string::String::from(#names)),*],));
    }
    if let Some(note) = &settings.deprecated {
        parts.push(quote!(deprecated: ::core::option::Option::Some(::std::string::String::from(#note)),));
    }
    if let Some(timeout) = settings.timeout {
        let ns = timeout.as_nanos() as u64;
        parts.push(quote!(timeout_ns: #ns,));
    }
    if !settings.docs.is_empty() {
        let docs = &settings.docs;
        parts.push(quote!(docs: ::std::string::String::from(#docs),));
    }

    let plain = quote_spanned!(span=> #support::MethodDescriptor::of::<#request, #reply>(#name));
    match parts.is_empty() {
        true => plain,
        false => quote_spanned!(span=> #support::MethodDescriptor { #(#parts)* ..#plain }),
    }
}
