//! Writes the adapter of methods that take many calls at once.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::Ident;

use crate::arguments::Form;
use crate::service::{Method, Service};
use crate::{naming, place, server, tuple};

fn batcher_field(method: &Method) -> Ident {
    format_ident!("batcher_of_{}", naming::wire_name(&method.ident))
}

/// Writes the server's fields that bring calls together, and how they begin.
pub(crate) fn write_batchers(service: &Service) -> Vec<(TokenStream, TokenStream)> {
    let support = &service.support;
    let write = |method: &Method| {
        let batch = method.settings.batch.as_ref()?;
        let (field, most, bytes) = (batcher_field(method), batch.max as usize, batch.bytes);
        let delay_ns = batch.delay.as_nanos() as u64;
        Some((
            quote!(#field: #support::Batcher),
            quote!(#field: #support::Batcher::new(#most, #support::Duration::from_nanos(#delay_ns), #bytes)),
        ))
    };
    service.methods.iter().filter_map(write).collect()
}

/// Writes the arm of a method whose calls are run together.
pub(crate) fn write_start(service: &Service, index: u16, method: &Method) -> TokenStream {
    let Method { ident, args, reply, is_async, .. } = method;
    let trait_ident = &service.ident;
    let span = method.span();
    let support = &place::path_at(&service.support, span);
    let request_type = method.request_type();
    let failure = server::write_failure(support, method);
    let (field, client) = (batcher_field(method), service.client_ident());
    let awaited = is_async.then(|| quote_spanned!(span=> .await));
    let binding = (!args.is_empty()).then(|| quote!(let request =));
    let read = args.iter().enumerate().map(|(index, arg)| {
        let place = tuple::place(&quote!(request), index, span);
        arg.handler_argument(support, &place, span)
    });
    let columns: Vec<_> =
        (0..args.len()).map(|index| Ident::new(&format!("column_{index}"), Span::mixed_site())).collect();
    let cells: Vec<_> = (0..args.len()).map(|index| Ident::new(&format!("cell_{index}"), Span::mixed_site())).collect();
    let given = args.iter().zip(&columns).map(|(arg, column)| match &arg.form {
        Form::Value(_) => quote!(#column),
        Form::InPlace(_) | Form::Str | Form::Bytes => quote!(&#column),
    });
    quote_spanned! {span=>
        #index => #support::Box::pin(async move {
            if let ::core::result::Result::Err(status) = #support::is_dynamic(#client::descriptor(), &*call) {
                return call.fail(status);
            }
            let ::core::option::Option::Some(batch) = self.#field.join(call).await else { return };
            let mut refused = ::std::vec::Vec::new();
            let answers: ::std::vec::Vec<::core::result::Result<#reply, #support::Status>> = {
                let mut contexts = ::std::vec::Vec::new();
                #(let mut #columns = ::std::vec::Vec::new();)*
                for call in batch.calls() {
                    let ctx = call.context();
                    let row = || {
                        #support::still_wanted(&**call)?;
                        #binding #support::access_request::<#request_type>(&ctx, call.request())?;
                        ::core::result::Result::<_, #support::Status>::Ok((#(#read,)*))
                    };
                    match row() {
                        ::core::result::Result::Ok((#(#cells,)*)) => {
                            contexts.push(ctx);
                            #(#columns.push(#cells);)*
                            refused.push(::core::option::Option::None);
                        }
                        ::core::result::Result::Err(status) => refused.push(::core::option::Option::Some(status)),
                    }
                }
                if contexts.is_empty() {
                    ::std::vec::Vec::new()
                } else {
                    let answers = <__S as #trait_ident>::#ident(&self.service, &contexts, #(#given),*) #awaited;
                    answers.into_iter().map(|answer| answer #failure).collect()
                }
            };
            batch.answer(refused, answers);
        }),
    }
}
