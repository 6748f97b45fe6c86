//! The names of what is written, and what they collide with.

use std::collections::HashMap;

use proc_macro2::Span;
use quote::format_ident;
use syn::Ident;
use syn::ext::IdentExt;

use crate::service::Method;

/// Associated functions that every client, or every batch of its calls, has.
const CLIENT_OWN: [&str; 7] = ["batch", "connect", "descriptor", "send_batch", "stats", "with", "with_timeout"];

/// Names the client method that reads the reply in place.
pub(crate) fn with_variant(method: &Ident) -> Ident {
    format_ident!("{}_with", method.unraw(), span = method.span())
}

/// Names the client method that tasks use.
pub(crate) fn async_variant(method: &Ident) -> Ident {
    format_ident!("{}_async", method.unraw(), span = method.span())
}

/// Gives a method's name as it is in descriptors: without `r#`.
pub(crate) fn wire_name(method: &Ident) -> String {
    method.unraw().to_string()
}

/// A method name that the client cannot have twice.
pub(crate) struct Clash {
    ident: Ident,
    with: String,
}

impl Clash {
    pub(crate) fn span(&self) -> Span {
        self.ident.span()
    }

    pub(crate) fn message(&self) -> String {
        format!("the client cannot have a method `{}`: {}", wire_name(&self.ident), self.with)
    }
}

/// Finds the methods whose names are taken by what else the client has.
pub(crate) fn clashes(methods: &[Method]) -> Vec<Clash> {
    let unary = methods.iter().filter(|method| method.is_unary());
    let variants = unary.flat_map(|method| {
        let (with, tasks) = (with_variant(&method.ident), async_variant(&method.ident));
        [(with.to_string(), "_with"), (tasks.to_string(), "_async")]
    });
    let variants: HashMap<String, &str> = variants.collect();
    let clash = |method: &Method| {
        let name = wire_name(&method.ident);
        let with = if CLIENT_OWN.contains(&name.as_str()) {
            "every client has one of its own".to_owned()
        } else if let Some(variant) = variants.get(&name) {
            format!("it is written for the method with the name before `{variant}`")
        } else {
            return None;
        };
        Some(Clash { ident: method.ident.clone(), with })
    };
    methods.iter().filter_map(clash).collect()
}
