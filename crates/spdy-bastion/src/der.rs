//! Reads the subject of a certificate: the name and the groups of a user, as Kubernetes reads them.
//!
//! The certificate was verified before, so its form was checked. This file is a reader of the few
//! fields in front of the subject, and refuses what it does not expect.

/// The subject of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The values of `CN`, which is the name of the user.
    pub(crate) common_names: Vec<String>,
    /// The values of `O`, which are the groups of the user.
    pub(crate) organizations: Vec<String>,
}

impl Subject {
    /// Reads the subject of a certificate in DER. Returns `None` if the form is not as expected.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let mut certificate = Reader(certificate);
        let mut certificate = Reader(certificate.expect(SEQUENCE)?);
        let mut fields = Reader(certificate.expect(SEQUENCE)?);
        let (first, _) = fields.next()?;
        if first == VERSION {
            fields.expect(INTEGER)?;
        } else if first != INTEGER {
            return None;
        }
        // The algorithm, the issuer and the time.
        for _ in 0..3 {
            fields.expect(SEQUENCE)?;
        }
        let mut subject = Self::default();
        let mut sets = Reader(fields.expect(SEQUENCE)?);
        while !sets.0.is_empty() {
            let mut set = Reader(sets.expect(SET)?);
            while !set.0.is_empty() {
                subject.attribute(Reader(set.expect(SEQUENCE)?))?;
            }
        }
        Some(subject)
    }

    fn attribute(&mut self, mut attribute: Reader<'_>) -> Option<()> {
        let values = match attribute.expect(OBJECT)? {
            COMMON_NAME => &mut self.common_names,
            ORGANIZATION => &mut self.organizations,
            _ => return Some(()),
        };
        let (kind, value) = attribute.next()?;
        if !STRINGS.contains(&kind) || !attribute.0.is_empty() {
            return None;
        }
        values.push(String::from_utf8(value.to_vec()).ok()?);
        Some(())
    }
}

/// The rest of an encoding.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Takes the next element: its tag and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let count = usize::from(first & 0x7f);
            let (bytes, after) = rest.split_at_checked(count)?;
            // A length of four bytes is more than any certificate has.
            if !(1..=4).contains(&count) {
                return None;
            }
            length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// Takes the next element, which has to have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(found, _)| *found == tag)
            .map(|(_, content)| content)
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
/// The tag of the version, which is missing in certificates of version 1.
const VERSION: u8 = 0xa0;
/// UTF8String, PrintableString and IA5String. Others are not a subset of UTF-8.
const STRINGS: [u8; 3] = [0x0c, 0x13, 0x16];
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.4.10
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn certificate(names: &[(DnType, DnValue)]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_name_and_the_group_are_read() {
        let der = certificate(&[
            (DnType::CountryName, DnValue::Utf8String("DE".to_owned())),
            (
                DnType::OrganizationName,
                DnValue::Utf8String("dévs".to_owned()),
            ),
            (DnType::CommonName, DnValue::Utf8String("alice".to_owned())),
        ]);
        let expected = Subject {
            common_names: vec!["alice".to_owned()],
            organizations: vec!["dévs".to_owned()],
        };
        assert_eq!(Subject::of(&der), Some(expected));
        assert_eq!(Subject::of(&certificate(&[])), Some(Subject::default()));
    }

    #[test]
    fn a_cut_or_changed_certificate_is_no_panic() {
        let der = certificate(&[(DnType::CommonName, DnValue::Utf8String("alice".to_owned()))]);
        for cut in 0..der.len() {
            assert_eq!(Subject::of(&der[..cut]), None, "cut at {cut}");
        }
        for place in 0..der.len() {
            for value in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[place] = value;
                _ = Subject::of(&changed);
            }
        }
    }
}
