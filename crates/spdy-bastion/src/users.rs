//! The user of a request.
//!
//! ```text
//! field of a trusted proxy ─┐
//! bearer token ─────────────┼─► Identity ─► Impersonate-User, Impersonate-Group
//! client certificate ───────┘
//! ```
//!
//! The first that the request has decides. If it is invalid the request is refused: the next one is
//! not tried.

mod tokens;

use std::{fmt, fs};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, InvalidHeaderValue},
};

pub(crate) use self::tokens::Tokens;
use crate::{Error, UserHeader, Users, der::Subject, headers::is_same};

/// A user of the bastion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
    pub(crate) by: By,
}

/// How a user was authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The token that was made at start, or loopback without TLS: the owner of the credentials of
    /// the bastion. No other user is impersonated.
    Owner,
    Certificate,
    Token,
    Header,
}

impl By {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Certificate => "certificate",
            Self::Token => "token",
            Self::Header => "header",
        }
    }
}

impl Identity {
    pub(crate) fn owner() -> Self {
        Self {
            name: OWNER.to_owned(),
            groups: Vec::new(),
            by: By::Owner,
        }
    }

    /// Creates a user, if its names are valid: not empty, without control characters, and without
    /// spaces at their ends, which the API server would not see.
    fn new(name: &str, groups: &[&str], by: By) -> Result<Self, Refused> {
        let is_valid = |text: &str| {
            !text.is_empty()
                && text.len() <= LONGEST_NAME
                && text.trim() == text
                && !text.contains(char::is_control)
        };
        let are_valid = is_valid(name) && groups.iter().all(|group| is_valid(group));
        if !are_valid || groups.len() > MOST_GROUPS {
            return Err(Refused::Name);
        }
        Ok(Self {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            by,
        })
    }

    /// Adds the fields that make the API server act for this user.
    pub(crate) fn impersonate(&self, headers: &mut HeaderMap) -> Result<(), InvalidHeaderValue> {
        if self.by == By::Owner {
            return Ok(());
        }
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes());
        headers.append(USER, value(&self.name)?);
        for group in &self.groups {
            headers.append(GROUP, value(group)?);
        }
        Ok(())
    }
}

/// Why a request has no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It has no credentials.
    Missing,
    /// Its token is unknown, or there are several.
    Token,
    /// The subject of its certificate has no single name.
    Subject,
    /// The field of the proxy is missing, doubled, or spelled in another way as well.
    Header,
    /// A name is not valid.
    Name,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "credentials are missing",
            Self::Token => "bearer token is not valid",
            Self::Subject => "client certificate does not name one user",
            Self::Header => "proxy does not name one user",
            Self::Name => "name of the user or of a group is not valid",
        })
    }
}

/// What is known of the connection of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    /// Whether the connection has no TLS, so that it comes from this machine.
    pub(crate) is_plain: bool,
    /// The verified certificate of the client.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// Finds out who sends a request.
pub(crate) struct Authenticator {
    tokens: Tokens,
    header: Option<UserHeader>,
    /// Whether a connection without TLS needs no credentials.
    is_open: bool,
}

impl Authenticator {
    /// Loads the tokens. `owner` is the token of the owner; `is_open` lets all requests without TLS
    /// in.
    pub(crate) fn load(users: &Users, owner: Option<&str>, is_open: bool) -> Result<Self, Error> {
        let mut tokens = match &users.tokens {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|error| Error::read(path, error))?;
                Tokens::parse(&text).map_err(|error| error.of(path))?
            }
            None => Tokens::default(),
        };
        if let Some(owner) = owner {
            tokens.add(owner, Identity::owner());
        }
        Ok(Self {
            tokens,
            header: users.header.clone(),
            is_open,
        })
    }

    /// Returns the fields in which a proxy names the user.
    pub(crate) fn fields(&self) -> Vec<HeaderName> {
        let header = self.header.iter();
        let names = header.flat_map(|header| [Some(&header.user), header.groups.as_ref()]);
        names.flatten().cloned().collect()
    }

    /// Returns the user of a request.
    pub(crate) fn user(
        &self,
        credentials: &Credentials,
        headers: &HeaderMap,
    ) -> Result<Identity, Refused> {
        let subject = credentials
            .certificate
            .as_deref()
            .map(subject)
            .transpose()?;
        if let Some(header) = &self.header {
            let is_proxy = |(name, _): &(String, _)| header.proxies.contains(name);
            if credentials.is_plain || subject.as_ref().is_some_and(is_proxy) {
                return by_header(header, headers);
            }
        }
        if headers.contains_key(AUTHORIZATION) {
            return self.by_token(headers);
        }
        match subject {
            Some((name, groups)) => {
                let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                Identity::new(&name, &groups, By::Certificate)
            }
            None if credentials.is_plain && self.is_open => Ok(Identity::owner()),
            None => Err(Refused::Missing),
        }
    }

    fn by_token(&self, headers: &HeaderMap) -> Result<Identity, Refused> {
        let value = only(headers, &AUTHORIZATION).ok_or(Refused::Token)?;
        let (scheme, token) = value.split_once(' ').ok_or(Refused::Token)?;
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        let token = Some(token.trim()).filter(|token| is_bearer && !token.is_empty());
        let found = token.and_then(|token| self.tokens.find(token));
        found.cloned().ok_or(Refused::Token)
    }
}

/// Returns the user that a proxy names. There must be no other spelling of the fields, because the
/// proxy might have removed only its own.
fn by_header(header: &UserHeader, headers: &HeaderMap) -> Result<Identity, Refused> {
    let own: Vec<_> = [Some(&header.user), header.groups.as_ref()]
        .into_iter()
        .flatten()
        .collect();
    let is_other = |name: &HeaderName| own.iter().any(|own| is_same(name, own) && name != *own);
    if headers.keys().any(is_other) {
        return Err(Refused::Header);
    }
    let name = only(headers, &header.user).ok_or(Refused::Header)?;
    let groups = header
        .groups
        .iter()
        .flat_map(|groups| headers.get_all(groups));
    let groups: Result<Vec<_>, _> = groups
        .map(|value| str::from_utf8(value.as_bytes()))
        .collect();
    Identity::new(name, &groups.map_err(|_| Refused::Name)?, By::Header)
}

/// Returns the value of a field, if there is exactly one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values
        .next()
        .is_none()
        .then(|| str::from_utf8(value.as_bytes()).ok())?
}

/// Returns the name and the groups of a certificate.
fn subject(certificate: &[u8]) -> Result<(String, Vec<String>), Refused> {
    let subject = Subject::of(certificate).ok_or(Refused::Subject)?;
    let [name] = &subject.common_names[..] else {
        return Err(Refused::Subject);
    };
    Ok((name.clone(), subject.organizations))
}

/// The name of the owner in rules and audit lines.
const OWNER: &str = "owner";

/// The longest name of a user or a group, in bytes.
const LONGEST_NAME: usize = 1024;

/// How many groups a user can be in.
const MOST_GROUPS: usize = 256;

const USER: HeaderName = HeaderName::from_static("impersonate-user");

const GROUP: HeaderName = HeaderName::from_static("impersonate-group");

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Credentials = Credentials {
        is_plain: true,
        certificate: None,
    };

    const TLS: Credentials = Credentials {
        is_plain: false,
        certificate: None,
    };

    fn authenticator(header: Option<UserHeader>, is_open: bool) -> Authenticator {
        let tokens = Tokens::parse("s3cret,alice,1,\"dev,ops\"\nother,bob\n").unwrap();
        Authenticator {
            tokens,
            header,
            is_open,
        }
    }

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn header() -> UserHeader {
        UserHeader {
            user: HeaderName::from_static("x-user"),
            groups: Some(HeaderName::from_static("x-group")),
            proxies: vec!["front".to_owned()],
        }
    }

    fn certificate(names: &[&str], groups: &[&str]) -> Credentials {
        use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for group in groups {
            params
                .distinguished_name
                .push(DnType::OrganizationName, *group);
        }
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let key = KeyPair::generate().unwrap();
        Credentials {
            is_plain: false,
            certificate: Some(params.self_signed(&key).unwrap().der().to_vec()),
        }
    }

    #[test]
    fn a_token_names_its_user() {
        let users = authenticator(None, true);
        let user = |value: &str| users.user(&TLS, &headers(&[("authorization", value)]));
        let alice = user("Bearer s3cret").unwrap();
        assert_eq!((alice.name.as_str(), alice.by), ("alice", By::Token));
        assert_eq!(alice.groups, ["dev", "ops"]);
        assert_eq!(user("bearer other").unwrap().name, "bob");
        for wrong in [
            "Bearer s3cre",
            "Bearer ",
            "Bearer",
            "Basic s3cret",
            "s3cret",
            "",
        ] {
            assert_eq!(user(wrong), Err(Refused::Token), "{wrong:?}");
        }
        let two = [
            ("authorization", "Bearer s3cret"),
            ("authorization", "Bearer other"),
        ];
        assert_eq!(users.user(&TLS, &headers(&two)), Err(Refused::Token));
    }

    #[test]
    fn an_invalid_token_is_not_made_good_by_another_way() {
        let wrong = headers(&[("authorization", "Bearer x")]);
        let users = authenticator(None, true);
        assert_eq!(users.user(&PLAIN, &wrong), Err(Refused::Token));
        let carol = certificate(&["carol"], &["dev"]);
        assert_eq!(users.user(&carol, &wrong), Err(Refused::Token));
        let carol = users.user(&carol, &HeaderMap::new()).unwrap();
        assert_eq!((carol.name.as_str(), carol.by), ("carol", By::Certificate));
        assert_eq!(carol.groups, ["dev"]);
    }

    #[test]
    fn no_credentials_are_enough_only_where_that_was_asked_for() {
        let none = HeaderMap::new();
        assert_eq!(
            authenticator(None, true).user(&PLAIN, &none),
            Ok(Identity::owner())
        );
        assert_eq!(
            authenticator(None, true).user(&TLS, &none),
            Err(Refused::Missing)
        );
        assert_eq!(
            authenticator(None, false).user(&PLAIN, &none),
            Err(Refused::Missing)
        );
    }

    #[test]
    fn a_field_counts_only_from_a_proxy_and_only_once() {
        let users = authenticator(Some(header()), true);
        let named = headers(&[("x-user", "dave"), ("x-group", "a"), ("x-group", "b")]);
        for from in [PLAIN, certificate(&["front"], &[])] {
            let dave = users.user(&from, &named).unwrap();
            assert_eq!((dave.name.as_str(), dave.by), ("dave", By::Header));
            assert_eq!(dave.groups, ["a", "b"]);
            for fields in [
                &[("x-user", "dave"), ("x-user", "root")][..],
                &[("x-user", "dave"), ("x_user", "root")],
                &[("x-user", "dave"), ("x_group", "root")],
                &[("x_user", "root")],
                &[],
            ] {
                assert_eq!(users.user(&from, &headers(fields)), Err(Refused::Header));
            }
            assert_eq!(
                users.user(&from, &headers(&[("x-user", "")])),
                Err(Refused::Name)
            );
        }
        assert_eq!(users.user(&TLS, &named), Err(Refused::Missing));
        let other = users.user(&certificate(&["fronts"], &[]), &named).unwrap();
        assert_eq!((other.name.as_str(), other.by), ("fronts", By::Certificate));
    }

    #[test]
    fn a_name_that_the_api_server_would_read_in_another_way_is_refused() {
        for name in ["", " a", "a ", "a\u{7}", "a\n", "a\u{9b}"] {
            assert_eq!(
                Identity::new(name, &[], By::Token),
                Err(Refused::Name),
                "{name:?}"
            );
            assert_eq!(
                Identity::new("a", &[name], By::Token),
                Err(Refused::Name),
                "{name:?}"
            );
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        assert_eq!(Identity::new(&long, &[], By::Token), Err(Refused::Name));
        let many = vec!["a"; MOST_GROUPS + 1];
        assert_eq!(Identity::new("a", &many, By::Token), Err(Refused::Name));
        let users = authenticator(None, false);
        let none = HeaderMap::new();
        assert_eq!(
            users.user(&certificate(&[], &["dev"]), &none),
            Err(Refused::Subject)
        );
        assert_eq!(
            users.user(&certificate(&[" a"], &[]), &none),
            Err(Refused::Name)
        );
    }

    #[test]
    fn the_owner_impersonates_no_other_user() {
        let mut fields = HeaderMap::new();
        Identity::owner().impersonate(&mut fields).unwrap();
        assert!(fields.is_empty());
        let user = Identity::new("jürgen", &["a", "b"], By::Token).unwrap();
        user.impersonate(&mut fields).unwrap();
        let expected = headers(&[
            ("impersonate-user", "jürgen"),
            ("impersonate-group", "a"),
            ("impersonate-group", "b"),
        ]);
        assert_eq!(fields, expected);
    }
}
