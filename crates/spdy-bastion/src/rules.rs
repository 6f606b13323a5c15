//! Rules: which sessions are denied, recorded, or limited in time.
//!
//! They add to what the API server allows, and never allow more. The first rule that matches
//! decides. If no rule matches, the session is allowed and recorded.

mod pattern;

use std::{fs, path::Path, time::Duration};

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use self::pattern::Patterns;
use crate::{
    Error,
    target::{Pod, Verb},
    users::Identity,
};

/// The rules of a file, in their order.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<Rule>);

/// A session that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) user: &'a Identity,
    pub(crate) verb: Verb,
    pub(crate) pod: &'a Pod,
    /// The container, if the request names one. A port-forward has none.
    pub(crate) container: Option<&'a str>,
}

/// What the rules say about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed {
        record: Record,
        time_limit: Option<Duration>,
    },
    /// With the message for the client.
    Denied(String),
}

/// What is recorded of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Record {
    Nothing,
    /// The outputs and the sizes of the terminal.
    #[default]
    Output,
    /// The input as well.
    Input,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Spanned<Rule>>,
}

/// A rule. A key that is missing matches everything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rule {
    user: Option<Patterns>,
    group: Option<Patterns>,
    namespace: Option<Patterns>,
    pod: Option<Patterns>,
    container: Option<Patterns>,
    verb: Option<Verbs>,
    #[serde(default)]
    deny: bool,
    message: Option<String>,
    #[serde(default, deserialize_with = "record")]
    record: Option<Record>,
    /// In seconds.
    time_limit: Option<std::num::NonZeroU32>,
}

/// A verb, or a list of verbs.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a verb, or a list of verbs: exec, attach, port-forward"
)]
enum Verbs {
    One(Verb),
    Many(Vec<Verb>),
}

impl Rules {
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|error| Error::read(path, error))?;
        Self::parse(&text).map_err(|error| error.of(path))
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |error: toml::de::Error| Error::new(error.to_string().trim().to_owned());
        let file: File = toml::from_str(text).map_err(invalid)?;
        if file.rule.is_empty() {
            // A file that an editor has emptied, on a full disk, must not allow everything.
            return Err(Error::new(
                "there is no rule: leave the option out to have none",
            ));
        }
        let checked = file.rule.into_iter().map(|rule| {
            let line = text[..rule.span().start].matches('\n').count() + 1;
            let wrong = |why| Error::new(format!("rule at line {line}: {why}"));
            let rule = rule.into_inner();
            rule.check().map_err(wrong)?;
            Ok(rule)
        });
        checked.collect::<Result<_, _>>().map(Self)
    }

    /// Decides about a session.
    pub(crate) fn decide(&self, asked: Asked<'_>) -> Decision {
        for rule in &self.0 {
            match rule.matches(asked) {
                Some(true) => return rule.decision(),
                Some(false) => {}
                None => return Decision::Denied(UNNAMED.to_owned()),
            }
        }
        Decision::Allowed {
            record: Record::default(),
            time_limit: None,
        }
    }
}

impl Rule {
    /// Refuses keys that have no effect together.
    fn check(&self) -> Result<(), &'static str> {
        let verbs = self.verb.as_ref().map_or(&Verb::ALL[..], Verbs::list);
        let is_forward = verbs == [Verb::PortForward];
        match self {
            _ if verbs.is_empty() => Err("`verb` names no verb"),
            Self {
                deny: true,
                record: Some(_),
                ..
            } => Err("`record` has no effect with `deny`"),
            Self {
                deny: true,
                time_limit: Some(_),
                ..
            } => Err("`time-limit` has no effect with `deny`"),
            Self {
                deny: false,
                message: Some(_),
                ..
            } => Err("`message` has no effect without `deny`"),
            Self {
                record: Some(Record::Output | Record::Input),
                ..
            } if is_forward => Err("a port-forward cannot be recorded"),
            Self {
                container: Some(_), ..
            } if is_forward => Err("a port-forward has no container"),
            _ => Ok(()),
        }
    }

    /// Returns whether the rule matches. Returns `None` if that depends on the container, and the
    /// request names none: then the API server would choose it.
    fn matches(&self, asked: Asked<'_>) -> Option<bool> {
        let Asked {
            user,
            verb,
            pod,
            container,
        } = asked;
        let is = |patterns: &Option<Patterns>, text: &str| {
            patterns
                .as_ref()
                .is_none_or(|patterns| patterns.match_text(text))
        };
        let in_group = |patterns: &Patterns| user.groups.iter().any(|it| patterns.match_text(it));
        let matches = self
            .verb
            .as_ref()
            .is_none_or(|verbs| verbs.list().contains(&verb))
            && is(&self.user, &user.name)
            && self.group.as_ref().is_none_or(in_group)
            && is(&self.namespace, &pod.namespace)
            && is(&self.pod, &pod.name);
        match (&self.container, container) {
            _ if !matches => Some(false),
            (None, _) => Some(true),
            (Some(_), None) if verb == Verb::PortForward => Some(false),
            (Some(_), None) => None,
            (Some(patterns), Some(container)) => Some(patterns.match_text(container)),
        }
    }

    fn decision(&self) -> Decision {
        if self.deny {
            let message = self.message.clone();
            return Decision::Denied(message.unwrap_or_else(|| DENIED.to_owned()));
        }
        Decision::Allowed {
            record: self.record.unwrap_or_default(),
            time_limit: self
                .time_limit
                .map(|time| Duration::from_secs(time.get().into())),
        }
    }
}

impl Verbs {
    fn list(&self) -> &[Verb] {
        match self {
            Self::One(verb) => std::slice::from_ref(verb),
            Self::Many(verbs) => verbs,
        }
    }
}

/// Reads `true`, `false` or `"input"`.
fn record<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Record>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "true, false or \"input\"")]
    enum Form {
        Flag(bool),
        Text(String),
    }
    match Form::deserialize(from)? {
        Form::Flag(true) => Ok(Some(Record::Output)),
        Form::Flag(false) => Ok(Some(Record::Nothing)),
        Form::Text(text) if text == "input" => Ok(Some(Record::Input)),
        Form::Text(_) => Err(de::Error::custom("expected true, false or \"input\"")),
    }
}

const DENIED: &str = "denied by a rule of the bastion";

const UNNAMED: &str = "a rule of the bastion depends on the container: name it";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::By;

    fn user(name: &str, groups: &[&str]) -> Identity {
        Identity {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            by: By::Token,
        }
    }

    /// Decides about a session, given as `user group verb namespace pod container`.
    fn decide(rules: &str, asked: &str) -> Decision {
        let [name, group, verb, namespace, pod, container] =
            asked.split(' ').collect::<Vec<_>>()[..]
        else {
            panic!("{asked}")
        };
        let verb = Verb::ALL.into_iter().find(|it| it.name() == verb).unwrap();
        let pod = Pod {
            namespace: namespace.to_owned(),
            name: pod.to_owned(),
        };
        let user = user(name, &[group, "all"]);
        Rules::parse(rules).unwrap().decide(Asked {
            user: &user,
            verb,
            pod: &pod,
            container: Some(container).filter(|name| *name != "-"),
        })
    }

    fn allowed(record: Record, seconds: Option<u64>) -> Decision {
        Decision::Allowed {
            record,
            time_limit: seconds.map(Duration::from_secs),
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = r#"
            [[rule]]
            namespace = "kube-*"
            group = ["admins", "ops-*"]
            record = "input"
            time-limit = 600

            [[rule]]
            namespace = "kube-*"
            deny = true
            message = "not here"

            [[rule]]
            user = "ci-*"
            verb = ["exec", "attach"]
            record = false

            [[rule]]
            verb = "port-forward"
            pod = "db-?"
            deny = true
        "#;
        for (asked, expected) in [
            (
                "a admins exec kube-system dns c",
                allowed(Record::Input, Some(600)),
            ),
            (
                "a ops-1 attach kube-system dns -",
                allowed(Record::Input, Some(600)),
            ),
            (
                "a dev exec kube-system dns c",
                Decision::Denied("not here".to_owned()),
            ),
            ("a dev exec kube dns c", allowed(Record::Output, None)),
            (
                "ci-1 dev attach default web c",
                allowed(Record::Nothing, None),
            ),
            (
                "ci-1 dev port-forward default web -",
                allowed(Record::Output, None),
            ),
            (
                "a dev port-forward default db-1 -",
                Decision::Denied(DENIED.to_owned()),
            ),
            (
                "a dev port-forward default db-10 -",
                allowed(Record::Output, None),
            ),
        ] {
            assert_eq!(decide(rules, asked), expected, "{asked}");
        }
        let other = "[[rule]]\nuser = \"b\"\ndeny = true";
        assert_eq!(
            decide(other, "a b exec c d e"),
            allowed(Record::Output, None)
        );
    }

    #[test]
    fn a_container_that_is_not_named_passes_no_rule_about_containers() {
        let rules = "[[rule]]\nnamespace = \"a\"\ncontainer = \"secret\"\ndeny = true";
        let unnamed = Decision::Denied(UNNAMED.to_owned());
        assert_eq!(decide(rules, "u g exec a p -"), unnamed);
        assert_eq!(
            decide(rules, "u g exec a p demo"),
            allowed(Record::Output, None)
        );
        assert_eq!(
            decide(rules, "u g exec b p -"),
            allowed(Record::Output, None)
        );
        assert_eq!(
            decide(rules, "u g port-forward a p -"),
            allowed(Record::Output, None)
        );
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, line, expected) in [
            ("[[rule]]\nusers = \"a\"", "line 2", "unknown field `users`"),
            ("rules = []", "line 1", "unknown field `rules`"),
            (
                "[[rule]]\n\nverb = \"run\"",
                "line 3",
                "exec, attach, port-forward",
            ),
            ("[[rule]]\nverb = []", "line 1", "names no verb"),
            ("[[rule]]\nrecord = \"all\"", "line 2", "\"input\""),
            ("[[rule]]\ntime-limit = 0", "line 2", "nonzero"),
            ("[[rule]]\ntime-limit = \"1h\"", "line 2", "invalid type"),
            (
                "[[rule]]\nuser = [1]",
                "line 2",
                "a pattern, or a list of patterns",
            ),
            ("[[rule]]\nuser = \"\"", "line 2", "pattern is empty"),
            (
                "[[rule]]\n[[rule]]\ndeny = true\nrecord = true",
                "line 2",
                "`record`",
            ),
            (
                "[[rule]]\ndeny = true\ntime-limit = 1",
                "line 1",
                "`time-limit`",
            ),
            ("[[rule]]\nmessage = \"a\"", "line 1", "`message`"),
            (
                "[[rule]]\nverb = \"port-forward\"\nrecord = true",
                "line 1",
                "cannot be recorded",
            ),
            (
                "[[rule]]\nverb = [\"port-forward\"]\ncontainer = \"a\"",
                "line 1",
                "no container",
            ),
            ("[[rule]]\ndeny = true\ndeny = false", "line 3", "duplicate"),
            ("[[rule]", "line 1", ""),
            ("", "", "there is no rule"),
            ("# all\nrule = []\n", "", "there is no rule"),
        ] {
            let message = Rules::parse(text).unwrap_err().to_string();
            assert!(message.contains(line), "{line} in {message}");
            assert!(message.contains(expected), "{expected} in {message}");
        }
    }
}
