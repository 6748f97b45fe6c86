//! Requests as tuples.
//!
//! rkyv knows tuples of up to 13 elements. A longer list of arguments becomes a tuple of the first
//! 12 and a tuple of the rest.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::Index;

/// Elements of a tuple before the rest goes into another.
const FLAT: usize = 12;

/// Writes a tuple type or expression of the given elements.
pub(crate) fn of(elements: &[TokenStream], span: Span) -> TokenStream {
    if elements.len() <= FLAT {
        return quote_spanned!(span=> (#(#elements,)*));
    }
    let (first, rest) = elements.split_at(FLAT);
    let rest = of(rest, span);
    quote_spanned!(span=> (#(#first,)* #rest))
}

/// Writes the place of an element in a tuple that [`of`] wrote.
pub(crate) fn place(tuple: &TokenStream, index: usize, span: Span) -> TokenStream {
    let step = |index| Index { index, span };
    if index < FLAT {
        let index = step(index as u32);
        return quote_spanned!(span=> #tuple.#index);
    }
    let rest = step(FLAT as u32);
    place(&quote_spanned!(span=> #tuple.#rest), index - FLAT, span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn elements(count: usize) -> Vec<TokenStream> {
        (0..count).map(|index| index.to_string().parse().unwrap()).collect()
    }

    fn depth(tuple: &TokenStream) -> usize {
        let group = |tree| match tree {
            proc_macro2::TokenTree::Group(group) => Some(1 + depth(&group.stream())),
            _ => None,
        };
        tuple.clone().into_iter().filter_map(group).max().unwrap_or(0)
    }

    #[test]
    fn up_to_twelve_elements_are_one_tuple() {
        assert_eq!(depth(&of(&elements(0), Span::call_site())), 1);
        assert_eq!(depth(&of(&elements(12), Span::call_site())), 1);
    }

    #[test]
    fn more_elements_go_into_a_tuple_in_the_thirteenth_place() {
        assert_eq!(depth(&of(&elements(13), Span::call_site())), 2);
        assert_eq!(depth(&of(&elements(25), Span::call_site())), 3);
        let tuple = quote!(t);
        assert_eq!(place(&tuple, 11, Span::call_site()).to_string(), "t . 11");
        assert_eq!(place(&tuple, 12, Span::call_site()).to_string(), "t . 12 . 0");
        assert_eq!(place(&tuple, 24, Span::call_site()).to_string(), "t . 12 . 12 . 0");
    }
}
