//! Reads a trait into the few facts that the client and the server are written from, or says at
//! which token it is no service.

use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Ident, ItemTrait, LitStr, Path, Result, Safety, Signature, Token, TraitItem, TraitItemFn, Type,
    Visibility,
};

use crate::arguments::{Arg, Inputs, read_reply};
use crate::naming;
use crate::settings::Settings;
use crate::syntax::{Errors, is_path};

/// What stands in the parentheses of the attribute.
pub(crate) struct Options {
    /// Path of the support code that written code refers to.
    pub(crate) support: Path,
    pub(crate) version: Option<LitStr>,
    /// No method can be called by values that describe themselves.
    pub(crate) typed_only: bool,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options =
            Self { support: syn::parse_quote!(::switchboard::__private), version: None, typed_only: false };
        while !input.is_empty() {
            if input.peek(Token![crate]) {
                input.parse::<Token![crate]>()?;
                input.parse::<Token![=]>()?;
                options.support = input.call(Path::parse_mod_style)?;
            } else {
                let key: Ident = input.parse()?;
                match key.to_string().as_str() {
                    "typed_only" => options.typed_only = true,
                    "version" => {
                        input.parse::<Token![=]>()?;
                        options.version = Some(input.parse()?);
                    }
                    _ => {
                        let allowed = "expected `version = \"…\"`, `typed_only` or `crate = path`";
                        return Err(Error::new(key.span(), allowed));
                    }
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }
}

/// A trait that is a service.
pub(crate) struct Service {
    pub(crate) support: Path,
    pub(crate) vis: Visibility,
    pub(crate) ident: Ident,
    pub(crate) version: Option<LitStr>,
    pub(crate) typed_only: bool,
    /// In the order of their indices.
    pub(crate) methods: Vec<Method>,
}

/// A method of a service.
pub(crate) struct Method {
    pub(crate) ident: Ident,
    pub(crate) is_async: bool,
    /// Attributes that the client's method has as well: docs and deprecation.
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) settings: Settings,
    /// The arguments that travel in the request.
    pub(crate) args: Vec<Arg>,
    /// Streams, in the order in which the handler takes them.
    pub(crate) streams: Vec<Stream>,
    /// The `T` of `Result<T, E>`.
    pub(crate) reply: Type,
    /// The `E`, if it is not `Status`.
    pub(crate) error: Option<Type>,
}

/// A stream among a method's arguments.
pub(crate) struct Stream {
    pub(crate) ident: Ident,
    pub(crate) direction: Direction,
    pub(crate) item: Type,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// `Incoming<T>`: from the client.
    FromClient,
    /// `Outgoing<T>`: to the client.
    ToClient,
}

/// Who runs a method's handler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Task,
    Thread,
}

impl Method {
    pub(crate) fn stream(&self, direction: Direction) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.direction == direction)
    }

    pub(crate) fn is_unary(&self) -> bool {
        self.streams.is_empty()
    }

    pub(crate) fn style(&self) -> Style {
        match (self.is_async || self.settings.batch.is_some(), self.is_unary()) {
            (true, _) => Style::Task,
            (false, true) => Style::Plain,
            (false, false) => Style::Thread,
        }
    }
}

impl Service {
    pub(crate) fn read(options: Options, item: &ItemTrait) -> Result<Self> {
        let mut errors = Errors::default();
        if let Some(unsafety) = item.unsafety {
            errors.add(unsafety.span, "a service is a safe trait");
        }
        if !item.generics.params.is_empty() || item.generics.where_clause.is_some() {
            errors.add(item.generics.span(), "a service has no generic parameters: a name stands for one set of types");
        }
        let methods: Vec<Method> = item.items.iter().filter_map(|item| errors.keep(read_item(item))).collect();
        if methods.len() > usize::from(u16::MAX) {
            errors.add(item.ident.span(), "a service has at most 65535 methods");
        }
        for clash in naming::clashes(&methods) {
            errors.add(clash.span(), clash.message());
        }
        errors.finish()?;
        let Options { support, version, typed_only } = options;
        Ok(Self { support, vis: item.vis.clone(), ident: item.ident.clone(), version, typed_only, methods })
    }
}

fn read_item(item: &TraitItem) -> Result<Method> {
    match item {
        TraitItem::Fn(method) => read_method(method),
        TraitItem::Type(other) => Err(Error::new_spanned(other, "a service has no associated types, only methods")),
        TraitItem::Const(other) => Err(Error::new_spanned(other, "a service has no constants, only methods")),
        other => Err(Error::new_spanned(other, "a service has only methods")),
    }
}

fn read_method(method: &TraitItemFn) -> Result<Method> {
    let sig = &method.sig;
    let mut errors = Errors::default();
    if let Some(attr) = method.attrs.iter().find(|attr| is_path(attr, "cfg") || is_path(attr, "cfg_attr")) {
        errors.add(attr.span(), "a method cannot be conditional: its index must be the same in every build");
    }
    if let (Some(_), Some(asyncness)) = (&method.default, sig.asyncness) {
        errors.add(asyncness.span, "an `async fn` of a service has no body in the trait");
    }
    refuse_modifiers(sig, &mut errors);
    let settings = Settings::read(&method.attrs, &mut errors);
    // Also one that says it wrongly.
    let is_batch = method.attrs.iter().any(|attr| is_path(attr, "batch"));
    let Inputs { args, streams } = Inputs::read(sig, is_batch, &mut errors);
    let reply = errors.keep(read_reply(sig, is_batch));
    errors.finish()?;

    let kept = |attr: &&Attribute| is_path(attr, "doc") || is_path(attr, "deprecated");
    let attrs = method.attrs.iter().filter(kept).cloned().collect();
    let (reply, error) = reply.unwrap_or_else(|| (syn::parse_quote!(()), None));
    let (ident, is_async) = (sig.ident.clone(), sig.asyncness.is_some());
    Ok(Method { ident, is_async, attrs, settings, args, streams, reply, error })
}

fn refuse_modifiers(sig: &Signature, errors: &mut Errors) {
    if let Some(constness) = sig.constness {
        errors.add(constness.span, "a service method cannot be `const`");
    }
    if let Safety::Unsafe(token) = &sig.safety {
        errors.add(token.span, "a service method is safe to call");
    }
    if let Some(abi) = &sig.abi {
        errors.add(abi.span(), "a service method has no `extern`");
    }
    if let Some(variadic) = &sig.variadic {
        errors.add(variadic.span(), "a service method has a fixed number of arguments");
    }
    if !sig.generics.params.is_empty() {
        errors.add(sig.generics.span(), "a service method has no generic parameters: its messages have one type each");
    }
    if let Some(clause) = &sig.generics.where_clause {
        errors.add(clause.span(), "a service method has no `where` clause");
    }
}
