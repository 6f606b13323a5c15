//! Bearer tokens and their users.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::{By, Identity};
use crate::Error;

/// The users of tokens. A token is found by its SHA-256, so the time of a comparison tells nothing
/// about it.
#[derive(Default)]
pub(crate) struct Tokens(HashMap<[u8; 32], Identity>);

impl Tokens {
    /// Parses a file with lines `token,user,uid,"group,group"`. Empty lines and lines that begin
    /// with `#` are ignored.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut tokens = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| Error::new(format!("line {}: {why}", number + 1));
            let fields = fields(line).ok_or_else(|| wrong("quotes are not closed"))?;
            let [token, name, rest @ ..] = &fields[..] else {
                return Err(wrong("token and user are missing"));
            };
            let groups: Vec<&str> = match rest {
                [] | [_] => Vec::new(),
                [_, groups] => groups
                    .split(',')
                    .filter(|group| !group.is_empty())
                    .collect(),
                _ => return Err(wrong("more than four fields")),
            };
            if token.is_empty() {
                return Err(wrong("token is empty"));
            }
            let user = Identity::new(name, &groups, By::Token)
                .map_err(|error| wrong(&error.to_string()))?;
            if tokens.add(token, user).is_some() {
                return Err(wrong("token is in another line too"));
            }
        }
        Ok(tokens)
    }

    pub(super) fn add(&mut self, token: &str, user: Identity) -> Option<Identity> {
        self.0.insert(digest(token), user)
    }

    pub(super) fn find(&self, token: &str) -> Option<&Identity> {
        self.0.get(&digest(token))
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Splits a line at its commas. A field can be in quotes, in which `""` is a quote.
fn fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            char => field.push(char),
        }
    }
    fields.push(field);
    (!is_quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_api_server_reads_them() {
        let text = "# users\n\na,alice,1,\"dev,ops\"\nb,bob,2\n\"c,\"\"\",carol,3,dev\n";
        let tokens = Tokens::parse(text).unwrap();
        let found = |token: &str| {
            let user = tokens.find(token)?;
            Some((user.name.as_str(), user.groups.join("+")))
        };
        assert_eq!(found("a"), Some(("alice", "dev+ops".to_owned())));
        assert_eq!(found("b"), Some(("bob", String::new())));
        assert_eq!(found("c,\""), Some(("carol", "dev".to_owned())));
        assert_eq!(found("# users"), None);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, expected) in [
            ("a,alice\nb", "line 2: token and user"),
            ("a,alice\n\na,bob", "line 3: token is in another line"),
            (",alice", "line 1: token is empty"),
            ("a,", "line 1: name"),
            ("a,b,c,\"d", "line 1: quotes"),
            ("a,b,c,d,e", "line 1: more than four"),
        ] {
            let error = Tokens::parse(text).err().unwrap().to_string();
            assert!(error.starts_with(expected), "{expected} in {error}");
        }
    }
}
