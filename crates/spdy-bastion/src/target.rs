//! What the path of a request asks for, read as the API server reads it.
//!
//! The API server decodes a path and then splits it at each `/`, also at an encoded one. This file
//! does the same. A path that could be read in two ways is denied.

use std::{fmt, ops::RangeInclusive};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Streams of a pod, which pass through the relay.
    Streams(Verb, Pod),
    /// Anything else, which passes as it is.
    Plain,
}

/// The requests that have streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verb {
    Exec,
    Attach,
    PortForward,
}

impl Verb {
    pub(crate) const ALL: [Self; 3] = [Self::Exec, Self::Attach, Self::PortForward];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "port-forward",
        }
    }

    /// Returns the verb of a subresource. The case does not matter, so that another spelling is
    /// denied and does not pass as it is.
    fn of(subresource: &str) -> Option<Self> {
        let is = |name| subresource.eq_ignore_ascii_case(name);
        match () {
            () if is("exec") => Some(Self::Exec),
            () if is("attach") => Some(Self::Attach),
            () if is("portforward") => Some(Self::PortForward),
            () => None,
        }
    }

    const fn subresource(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
        }
    }
}

/// A pod. Both names are valid names of Kubernetes, so they contain no `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Pod {
    /// Returns the path of a request for streams of this pod.
    pub(crate) fn path(&self, verb: Verb) -> String {
        let Self { namespace, name } = self;
        let subresource = verb.subresource();
        format!("/api/v1/namespaces/{namespace}/pods/{name}/{subresource}")
    }
}

/// Why a path is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It does not begin with `/`, or has a broken escape or a NUL.
    Malformed,
    /// It has a segment that is empty, `.` or `..`.
    Ambiguous,
    /// It asks for streams, but is not spelled as Kubernetes spells it.
    Spelling,
    /// It leads to a kubelet, which runs commands without a relay.
    Node,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "path of the request is malformed",
            Self::Ambiguous => "path of the request has an empty segment, `.` or `..`",
            Self::Spelling => "path of the request is not spelled as Kubernetes spells it",
            Self::Node => "kubelets cannot be reached through this bastion",
        })
    }
}

impl Target {
    /// Reads the path of a request.
    pub(crate) fn of(path: &str) -> Result<Self, Denied> {
        let decoded = decode(path).ok_or(Denied::Malformed)?;
        let inner = decoded.strip_prefix('/').ok_or(Denied::Malformed)?;
        // A `/` at the end changes nothing for Kubernetes.
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let segments: Vec<&str> = inner.split('/').collect();
        if segments
            .iter()
            .any(|segment| matches!(*segment, "." | ".."))
        {
            return Err(Denied::Ambiguous);
        }
        // What follows `proxy` belongs to the program behind a pod or a service.
        let mut own = segments.iter().take_while(|segment| **segment != "proxy");
        if segments.len() > 1 && own.any(|segment| segment.is_empty()) {
            return Err(Denied::Ambiguous);
        }
        if is_node(&segments) {
            return Err(Denied::Node);
        }
        match streams(&segments) {
            Some((verb, pod)) if pod.is_valid() && pod.path(verb) == path => {
                Ok(Self::Streams(verb, pod))
            }
            Some(_) => Err(Denied::Spelling),
            None => Ok(Self::Plain),
        }
    }
}

/// Returns whether a path leads to a kubelet, in the form of today or in the one before.
fn is_node(segments: &[&str]) -> bool {
    let is = |index: usize, name: &str| {
        let segment = segments.get(index);
        segment.is_some_and(|segment| segment.eq_ignore_ascii_case(name))
    };
    let mut places = RESOURCE.filter(|at| !is(at - 1, "namespaces"));
    places.any(|at| is(at, "nodes") && (is(at + 2, "proxy") || is(at - 1, "proxy")))
}

/// Returns the verb and the pod of a path that asks for streams, however it is spelled.
fn streams(segments: &[&str]) -> Option<(Verb, Pod)> {
    let (last, before) = segments.split_last()?;
    let verb = Verb::of(last)?;
    let (name, before) = before.split_last()?;
    let (resource, before) = before.split_last()?;
    let is_resource = RESOURCE.contains(&before.len()) && before.last() != Some(&"namespaces");
    (resource.eq_ignore_ascii_case("pods") && is_resource).then(|| {
        let pod = Pod {
            namespace: before.last().copied().unwrap_or_default().to_owned(),
            name: (*name).to_owned(),
        };
        (verb, pod)
    })
}

impl Pod {
    fn is_valid(&self) -> bool {
        is_name(&self.namespace, LABEL) && is_name(&self.name, SUBDOMAIN)
    }
}

/// Returns whether a text is a name of Kubernetes of at most this length: lower-case letters,
/// digits, `-` and `.`.
pub(crate) fn is_name(text: &str, longest: usize) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| is_of_name(byte) || matches!(byte, b'-' | b'.');
    let (first, last) = (text.bytes().next(), text.bytes().last());
    text.len() <= longest
        && first.is_some_and(is_of_name)
        && last.is_some_and(is_of_name)
        && text.bytes().all(inner)
        && !text.contains("..")
}

/// Decodes the escapes of a path. Returns `None` if one is broken, or if the path has a NUL, a
/// control character or bytes that are not UTF-8.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = str::from_utf8(digits).ok()?;
        // A sign is no digit of an escape.
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        rest = after;
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

/// Where the name of a resource can be: `/api/v1/nodes`, `/api/v1/watch/nodes`, and
/// `/api/v1/namespaces/NS/pods`.
const RESOURCE: RangeInclusive<usize> = 2..=5;

/// The longest name of a namespace or a container.
pub(crate) const LABEL: usize = 63;

/// The longest name of a pod.
pub(crate) const SUBDOMAIN: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_pod_are_found() {
        for (subresource, verb) in [
            ("exec", Verb::Exec),
            ("attach", Verb::Attach),
            ("portforward", Verb::PortForward),
        ] {
            for (namespace, name) in [("default", "demo-0.x"), ("pods", "exec"), ("proxy", "pods")]
            {
                let pod = Pod {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                };
                let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/{subresource}");
                assert_eq!(Target::of(&path), Ok(Target::Streams(verb, pod)), "{path}");
            }
        }
    }

    #[test]
    fn other_requests_pass() {
        for path in [
            "/",
            "/api",
            "/apis/",
            "/version/",
            "/openapi/v2",
            "/api/v1/namespaces/default/pods/demo",
            "/api/v1/namespaces/default/pods/exec",
            "/api/v1/namespaces/pods/configmaps/exec",
            "/api/v1/namespaces/default/configmaps/exec",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode-proxier",
            "/api/v1/nodes/n1",
            "/api/v1/nodes/n1/status",
            "/api/v1/namespaces/default/services/web/proxy/",
            "/api/v1/namespaces/default/services/https:web:443/proxy//a%20b/pods/x/exec",
            "/api/v1/namespaces/nodes/pods/proxy/log",
        ] {
            assert_eq!(Target::of(path), Ok(Target::Plain), "{path}");
        }
    }

    #[test]
    fn another_spelling_of_streams_is_denied() {
        for (path, denied) in [
            (
                "/api/v1/namespaces/default/pods/demo/exec/",
                Denied::Spelling,
            ),
            (
                "/api/v1/namespaces/default/pods/demo/Exec",
                Denied::Spelling,
            ),
            (
                "/api/v1/namespaces/default/pods/demo/%65xec",
                Denied::Spelling,
            ),
            (
                "/api/v1/namespaces/default/pods/demo%2Fexec",
                Denied::Spelling,
            ),
            (
                "/api/v1/namespaces/default/Pods/demo/exec",
                Denied::Spelling,
            ),
            (
                "/API/v1/namespaces/default/pods/demo/exec",
                Denied::Spelling,
            ),
            (
                "/api/v2/namespaces/default/pods/demo/attach",
                Denied::Spelling,
            ),
            (
                "/api/v1/watch/namespaces/default/pods/demo/exec",
                Denied::Spelling,
            ),
            ("/api/v1/pods/demo/portforward", Denied::Spelling),
            (
                "/api/v1/namespaces/default/pods/Demo/exec",
                Denied::Spelling,
            ),
            (
                "/api/v1/namespaces/default/pods/-demo/exec",
                Denied::Spelling,
            ),
            (
                "/api/v1/namespaces/default/pods/%2e%2e/exec",
                Denied::Ambiguous,
            ),
            (
                "/api/v1/namespaces/default/pods/demo/./exec",
                Denied::Ambiguous,
            ),
            (
                "/api/v1/namespaces/default//pods/demo/exec",
                Denied::Ambiguous,
            ),
            (
                "//api/v1/namespaces/default/pods/demo/exec",
                Denied::Ambiguous,
            ),
            (
                "/api/v1/namespaces/default/pods/demo//exec",
                Denied::Ambiguous,
            ),
            (
                "/api/v1/namespaces/default/pods/demo/exec//",
                Denied::Ambiguous,
            ),
            (
                "/api/v1/namespaces/default/pods/demo/exec%00",
                Denied::Malformed,
            ),
            (
                "/api/v1/namespaces/default/pods/demo/exec%",
                Denied::Malformed,
            ),
            (
                "/api/v1/namespaces/default/pods/demo/%+1exec",
                Denied::Malformed,
            ),
            (
                "/api/v1/namespaces/default/pods/demo/%ffexec",
                Denied::Malformed,
            ),
            ("*", Denied::Malformed),
            ("", Denied::Malformed),
        ] {
            assert_eq!(Target::of(path), Err(denied), "{path}");
        }
    }

    #[test]
    fn a_kubelet_cannot_be_reached() {
        for path in [
            "/api/v1/nodes/n1/proxy/run/default/demo/demo",
            "/api/v1/nodes/n1/proxy",
            "/api/v1/nodes/https:n1:10250/proxy/exec/default/demo/demo",
            "/api/v1/%6eodes/n1/pro%78y/run/default/demo/demo",
            "/api/v1/Nodes/n1/Proxy/",
            "/api/v1/proxy/nodes/n1/run/default/demo/demo",
        ] {
            assert_eq!(Target::of(path), Err(Denied::Node), "{path}");
        }
    }
}
