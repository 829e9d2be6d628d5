//! The header fields of a response.

use httparse::Header;

/// The values of all fields of a name, in their order.
pub(super) fn values<'a>(
    fields: &'a [Header<'a>],
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    let of_name = move |field: &&Header<'_>| field.name.eq_ignore_ascii_case(name);
    fields
        .iter()
        .filter(of_name)
        .map(|field| field.value.trim_ascii())
}

/// The members of a list that may be spread over several fields, without empty ones (RFC 9110,
/// section 5.6.1).
pub(super) fn members<'a>(
    fields: &'a [Header<'a>],
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    values(fields, name)
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}
