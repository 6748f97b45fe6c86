//! Where the compiler says that written code is.
//!
//! Code written for a method stands, for the compiler's messages, at the method's name in the
//! user's trait: whatever is wrong with it, the user is sent to the right line.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::Path;

/// Gives the place of a user's token to code that we write.
///
/// Lints go on treating it as written code.
pub(crate) fn at(user: Span) -> Span {
    user.resolved_at(Span::call_site())
}

/// Moves a path to a place.
pub(crate) fn path_at(path: &Path, span: Span) -> Path {
    let tokens = path.to_token_stream().into_iter().map(|mut token| {
        token.set_span(span);
        token
    });
    let moved: TokenStream = tokens.collect();
    // What was a path still is one.
    syn::parse2(moved).unwrap_or_else(|_| path.clone())
}
