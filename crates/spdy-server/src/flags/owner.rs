//! The mode and the owner of Unix sockets.

use std::{fs, str::FromStr};

/// The user and the group of `--socket-owner`, each by name or number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
}

impl FromStr for Owner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        if user.is_empty() && group.is_empty() {
            return Err("use USER, USER:GROUP or :GROUP".to_owned());
        }
        let id = |name: &str, file, what| match name {
            "" => Ok(None),
            name => id(name, file)
                .map(Some)
                .ok_or_else(|| format!("{file} has no {what} `{name}`")),
        };
        Ok(Self {
            user: id(user, "/etc/passwd", "user")?,
            group: id(group, "/etc/group", "group")?,
        })
    }
}

/// Returns the number of a name. Both files have it in their third field.
fn id(name: &str, file: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        // The system reads the highest number as "no change".
        return (number != u32::MAX).then_some(number);
    }
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().map(|line| line.split(':'));
    let mut fields = lines.find(|line| line.clone().next() == Some(name))?;
    fields.nth(2)?.parse().ok()
}

/// Reads a mode, in octal as chmod takes it.
pub(super) fn mode(text: &str) -> Result<u32, &'static str> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("use an octal number from 0 to 777, such as 660"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_names_or_numbers_and_modes_are_octal() {
        let owner = |user, group| Ok(Owner { user, group });
        assert_eq!("7:8".parse(), owner(Some(7), Some(8)));
        assert_eq!("7".parse(), owner(Some(7), None));
        assert_eq!(":8".parse(), owner(None, Some(8)));
        assert_eq!("root:root".parse(), owner(Some(0), Some(0)));
        for text in [
            "",
            ":",
            "no such user",
            ":no such group",
            "4294967295",
            ":4294967295",
        ] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
        assert_eq!((mode("660"), mode("0600")), (Ok(0o660), Ok(0o600)));
        for text in ["", "888", "1777", "-1", "rw"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
