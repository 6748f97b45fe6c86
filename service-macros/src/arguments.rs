//! Reads what a method takes and gives.

use syn::{Error, FnArg, Ident, Pat, ReceiverKind, Result, ReturnType, Signature, Type};

use crate::service::{Direction, Stream};
use crate::syntax::{Errors, is_named, last_segment, only_arg_of, peel, type_args};

/// An argument behind the context that travels in the request.
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
    /// `&str`.
    Str,
    /// `&[u8]`.
    Bytes,
}

const ALLOWED_ARGS: &str = "an argument is `T`, `&Archived<T>`, `&str` or `&[u8]`";
const ALLOWED_COLUMNS: &str =
    "a batch takes each argument of all calls at once: as `Vec<T>`, `&[&Archived<T>]`, `&[&str]` or `&[&[u8]]`";

/// What a method takes behind `&self` and the context.
pub(crate) struct Inputs {
    pub(crate) args: Vec<Arg>,
    pub(crate) streams: Vec<Stream>,
}

/// One argument.
enum Input {
    Arg(Arg),
    Stream(Stream),
}

impl Inputs {
    pub(crate) fn read(sig: &Signature, is_batch: bool, errors: &mut Errors) -> Self {
        let mut inputs = sig.inputs.iter();
        errors.keep(read_receiver(sig, inputs.next()));
        errors.keep(read_context(sig, inputs.next(), is_batch));
        let mut read = Self { args: Vec::new(), streams: Vec::new() };
        for input in inputs {
            match errors.keep(read_input(input, is_batch)) {
                Some(Input::Arg(arg)) if read.streams.is_empty() => read.args.push(arg),
                Some(Input::Arg(arg)) => errors.add(arg.ident.span(), "streams come behind all other arguments"),
                Some(Input::Stream(stream)) if read.streams.iter().any(|other| other.direction == stream.direction) => {
                    errors.add(stream.ident.span(), "a method has at most one stream in each direction");
                }
                Some(Input::Stream(stream)) => read.streams.push(stream),
                None => {}
            }
        }
        read
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

fn read_context(sig: &Signature, input: Option<&FnArg>, is_batch: bool) -> Result<()> {
    let allowed = match is_batch {
        false => "behind `&self` a service method takes the call's context: `ctx: &Context<'_>`",
        true => "behind `&self` a batch takes the contexts of its calls: `calls: &[Context<'_>]`",
    };
    let Some(FnArg::Typed(input)) = input else {
        return Err(Error::new(sig.ident.span(), allowed));
    };
    let shared = match peel(&input.ty) {
        Type::Reference(reference) if reference.mutability.is_none() => Some(peel(&reference.elem)),
        _ => None,
    };
    let context = match shared {
        Some(Type::Slice(slice)) if is_batch => Some(peel(&slice.elem)),
        shared if !is_batch => shared,
        _ => None,
    };
    match context.and_then(last_segment) {
        Some(last) if last.ident == "Context" => Ok(()),
        _ => Err(Error::new_spanned(peel(&input.ty), allowed)),
    }
}

fn read_input(input: &FnArg, is_batch: bool) -> Result<Input> {
    let FnArg::Typed(input) = input else {
        return Err(Error::new_spanned(input, ALLOWED_ARGS));
    };
    let ident = match &*input.pat {
        Pat::Ident(pat) => pat.ident.clone(),
        other => return Err(Error::new_spanned(other, "an argument needs a name: the client's method has it too")),
    };
    let ty = &*input.ty;
    let stream = [("Incoming", Direction::FromClient), ("Outgoing", Direction::ToClient)];
    for (name, direction) in stream {
        if let Some(item) = only_arg_of(ty, name) {
            if is_batch {
                return Err(Error::new_spanned(ty, "the calls of a batch have no streams"));
            }
            return Ok(Input::Stream(Stream { ident, direction, item: item.clone() }));
        }
    }
    let form = if is_batch { read_column(ty)? } else { read_form(ty)? };
    Ok(Input::Arg(Arg { ident, form }))
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
    let is_plain = reference.mutability.is_none() && reference.lifetime.is_none();
    let form = is_plain.then(|| read_elem(&reference.elem)).flatten();
    form.ok_or_else(|| Error::new_spanned(ty, format!("this reference cannot be sent: {ALLOWED_ARGS}")))
}

/// Reads what stands behind the `&`.
fn read_elem(elem: &Type) -> Option<Form> {
    match peel(elem) {
        Type::Slice(slice) if is_named(&slice.elem, "u8") => Some(Form::Bytes),
        elem if is_named(elem, "str") => Some(Form::Str),
        elem => only_arg_of(elem, "Archived").map(|inner| Form::InPlace(inner.clone())),
    }
}

/// Reads the type of one argument of all calls of a batch.
fn read_column(ty: &Type) -> Result<Form> {
    let refuse = || Error::new_spanned(ty, ALLOWED_COLUMNS);
    match peel(ty) {
        Type::Reference(columns) => match peel(&columns.elem) {
            Type::Slice(slice) => match peel(&slice.elem) {
                Type::Reference(reference) if reference.mutability.is_none() => read_elem(&reference.elem),
                _ => None,
            },
            _ => None,
        }
        .ok_or_else(refuse),
        value => only_arg_of(value, "Vec").map(|inner| Form::Value(inner.clone())).ok_or_else(refuse),
    }
}

/// Reads the `T` and, if it is not `Status`, the `E` of `Result<T, E>`.
pub(crate) fn read_reply(sig: &Signature, is_batch: bool) -> Result<(Type, Option<Type>)> {
    let allowed = match is_batch {
        false => "a service method answers `Result<T, Status>`, or `Result<T, E>` with a `ServiceError`",
        true => "a batch answers each of its calls: `Vec<Result<T, Status>>`",
    };
    let ReturnType::Type(_, output) = &sig.output else {
        return Err(Error::new(sig.ident.span(), allowed));
    };
    let refuse = || Error::new_spanned(output, allowed);
    let output = if is_batch { only_arg_of(output, "Vec").ok_or_else(refuse)? } else { output };
    let last = last_segment(output).filter(|last| last.ident == "Result").ok_or_else(refuse)?;
    match type_args(last).as_slice() {
        [reply, error] if last_segment(error).is_some_and(|last| last.ident == "Status") => {
            Ok(((*reply).clone(), None))
        }
        [reply, error] => Ok(((*reply).clone(), Some((*error).clone()))),
        _ => Err(refuse()),
    }
}
