//! The cookies of a request, which are one field for the application.

use http::{HeaderMap, HeaderValue, header::COOKIE};

/// Makes one `cookie` field of several.
///
/// A client of HTTP/2 can send each cookie in a field of its own, which compresses better. Programs
/// that know HTTP/1.1 read one of them, or join them with a comma (RFC 9113, section 8.2.3).
pub(crate) fn join(fields: &mut HeaderMap) {
    let mut cookies = fields.get_all(COOKIE).iter();
    if cookies.by_ref().nth(1).is_none() {
        return;
    }
    let cookies: Vec<_> = fields.get_all(COOKIE).iter().collect();
    let is_sensitive = cookies.iter().any(|cookie| cookie.is_sensitive());
    let texts: Vec<_> = cookies.iter().map(|cookie| cookie.as_bytes()).collect();
    let mut joined = HeaderValue::from_bytes(&texts.join(&b"; "[..])).expect("its parts are valid");
    joined.set_sensitive(is_sensitive);
    fields.insert(COOKIE, joined);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_cookies_are_joined_and_stay_secret() {
        for (sent, joined) in [
            (&[][..], None),
            (&["a=1"], Some("a=1")),
            (
                &["a=1", "b=2; c=3", "\u{e9}"],
                Some("a=1; b=2; c=3; \u{e9}"),
            ),
        ] {
            let mut fields = HeaderMap::new();
            for (number, cookie) in sent.iter().enumerate() {
                let mut cookie = HeaderValue::from_bytes(cookie.as_bytes()).unwrap();
                cookie.set_sensitive(number == 1);
                fields.append(COOKIE, cookie);
            }
            fields.insert("x", HeaderValue::from_static("1"));
            join(&mut fields);
            let all: Vec<_> = fields.get_all(COOKIE).iter().collect();
            assert_eq!(all.len(), usize::from(joined.is_some()));
            let bytes = all.first().map(|cookie| cookie.as_bytes());
            assert_eq!(bytes, joined.map(str::as_bytes));
            assert_eq!(all.iter().any(|it| it.is_sensitive()), sent.len() > 1);
            assert_eq!(fields["x"], "1");
        }
    }
}
