//! Reads a trait into the few facts that the client and the server are written from, or says at
//! which token it is no service.

use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ItemTrait, Pat, Path, PathArguments, PathSegment, ReceiverKind,
    Result, ReturnType, Safety, Signature, Token, TraitItem, TraitItemFn, Type, Visibility,
};

use crate::naming;

/// What stands in the parentheses of the attribute.
pub(crate) struct Options {
    /// Path of the support code that written code refers to.
    pub(crate) support: Path,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.is_empty() {
            return Ok(Self { support: syn::parse_quote!(::switchboard::__private) });
        }
        if !input.peek(Token![crate]) {
            return Err(input.error("expected `crate = path`, or nothing"));
        }
        input.parse::<Token![crate]>()?;
        input.parse::<Token![=]>()?;
        Ok(Self { support: input.call(Path::parse_mod_style)? })
    }
}

/// A trait that is a service.
pub(crate) struct Service {
    pub(crate) support: Path,
    pub(crate) vis: Visibility,
    pub(crate) ident: Ident,
    /// In the order of their indices.
    pub(crate) methods: Vec<Method>,
}

/// A method of a service.
pub(crate) struct Method {
    pub(crate) ident: Ident,
    /// Attributes that the client's method has as well: docs and deprecation.
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) args: Vec<Arg>,
    /// The `T` of `Result<T, Status>`.
    pub(crate) reply: Type,
}

/// An argument behind the context.
pub(crate) struct Arg {
    pub(crate) ident: Ident,
    pub(crate) form: Form,
}

/// How an argument is handed over.
pub(crate) enum Form {
    /// `T`: the handler owns it.
    Value(Type),
    /// `&Archived<T>`, here the `T`: the handler reads it in place.
    InPlace(Type),
    /// `&str`, here the whole type.
    Str(Type),
    /// `&[u8]`, here the whole type.
    Bytes(Type),
}

const ALLOWED_ARGS: &str = "an argument is `T`, `&Archived<T>`, `&str` or `&[u8]`";

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
        Ok(Self { support: options.support, vis: item.vis.clone(), ident: item.ident.clone(), methods })
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
    refuse_modifiers(sig, &mut errors);

    let mut inputs = sig.inputs.iter();
    errors.keep(read_receiver(sig, inputs.next()));
    errors.keep(read_context(sig, inputs.next()));
    let args = inputs.filter_map(|input| errors.keep(read_arg(input))).collect();
    let reply = errors.keep(read_reply(sig));
    errors.finish()?;

    let kept = |attr: &&Attribute| is_path(attr, "doc") || is_path(attr, "deprecated");
    let attrs = method.attrs.iter().filter(kept).cloned().collect();
    let reply = reply.unwrap_or_else(|| syn::parse_quote!(()));
    Ok(Method { ident: sig.ident.clone(), attrs, args, reply })
}

fn refuse_modifiers(sig: &Signature, errors: &mut Errors) {
    if let Some(asyncness) = sig.asyncness {
        errors.add(asyncness.span, "a service method is a plain `fn`; a worker thread runs it");
    }
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
        errors.add(variadic.span(), ALLOWED_ARGS);
    }
    if !sig.generics.params.is_empty() {
        errors.add(sig.generics.span(), "a service method has no generic parameters: its messages have one type each");
    }
    if let Some(clause) = &sig.generics.where_clause {
        errors.add(clause.span(), "a service method has no `where` clause");
    }
}

fn read_receiver(sig: &Signature, input: Option<&FnArg>) -> Result<()> {
    const ALLOWED: &str = "a service method begins with `&self`: many callers share the service";
    match input {
        Some(FnArg::Receiver(receiver)) => match &receiver.kind {
            ReceiverKind::Reference(_, None, None) => Ok(()),
            _ => Err(Error::new_spanned(receiver, ALLOWED)),
        },
        _ => Err(Error::new(sig.ident.span(), ALLOWED)),
    }
}

fn read_context(sig: &Signature, input: Option<&FnArg>) -> Result<()> {
    const ALLOWED: &str = "behind `&self` a service method takes the call's context: `ctx: &Context<'_>`";
    let Some(FnArg::Typed(input)) = input else {
        return Err(Error::new(sig.ident.span(), ALLOWED));
    };
    match peel(&input.ty) {
        Type::Reference(reference)
            if reference.mutability.is_none()
                && last_segment(&reference.elem).is_some_and(|last| last.ident == "Context") =>
        {
            Ok(())
        }
        other => Err(Error::new_spanned(other, ALLOWED)),
    }
}

fn read_arg(input: &FnArg) -> Result<Arg> {
    let FnArg::Typed(input) = input else {
        return Err(Error::new_spanned(input, ALLOWED_ARGS));
    };
    let ident = match &*input.pat {
        Pat::Ident(pat) => pat.ident.clone(),
        other => return Err(Error::new_spanned(other, "an argument needs a name: the client's method has it too")),
    };
    Ok(Arg { ident, form: read_form(&input.ty)? })
}

fn read_form(ty: &Type) -> Result<Form> {
    let Type::Reference(reference) = peel(ty) else {
        return match peel(ty) {
            Type::ImplTrait(_) | Type::TraitObject(_) | Type::Ptr(_) | Type::FnPtr(_) | Type::Infer(_) => {
                Err(Error::new_spanned(ty, ALLOWED_ARGS))
            }
            _ => Ok(Form::Value(ty.clone())),
        };
    };
    let refuse = || Err(Error::new_spanned(ty, format!("this reference cannot be sent: {ALLOWED_ARGS}")));
    if reference.mutability.is_some() || reference.lifetime.is_some() {
        return refuse();
    }
    match peel(&reference.elem) {
        Type::Slice(slice) if is_named(&slice.elem, "u8") => Ok(Form::Bytes(ty.clone())),
        elem if is_named(elem, "str") => Ok(Form::Str(ty.clone())),
        elem => match last_segment(elem) {
            Some(last) if last.ident == "Archived" => match type_args(last).as_slice() {
                [inner] => Ok(Form::InPlace((*inner).clone())),
                _ => refuse(),
            },
            _ => refuse(),
        },
    }
}

fn read_reply(sig: &Signature) -> Result<Type> {
    const ALLOWED: &str = "a service method answers `Result<T, Status>`";
    let ReturnType::Type(_, output) = &sig.output else {
        return Err(Error::new(sig.ident.span(), ALLOWED));
    };
    let refuse = || Err(Error::new_spanned(output, ALLOWED));
    match last_segment(output) {
        Some(last) if last.ident == "Result" => match type_args(last).as_slice() {
            [reply, error] if last_segment(error).is_some_and(|last| last.ident == "Status") => Ok((*reply).clone()),
            _ => refuse(),
        },
        _ => refuse(),
    }
}

/// Looks through the parentheses and invisible groups that macros leave around a type.
fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peel(&group.elem),
        Type::Paren(paren) => peel(&paren.elem),
        other => other,
    }
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match peel(ty) {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        _ => None,
    }
}

fn is_named(ty: &Type, name: &str) -> bool {
    matches!(peel(ty), Type::Path(path) if path.path.is_ident(name))
}

fn is_path(attr: &Attribute, name: &str) -> bool {
    attr.path().is_ident(name)
}

fn type_args(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(args) = &segment.arguments else {
        return Vec::new();
    };
    let types = args.args.iter().filter_map(|arg| match arg {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

/// Collects errors, so that one compilation shows them all.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn add(&mut self, span: Span, message: impl std::fmt::Display) {
        self.push(Error::new(span, message));
    }

    fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            none => *none = Some(error),
        }
    }

    fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
