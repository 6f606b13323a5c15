//! The two preset dictionaries of header compression (protocol.md §24).
//!
//! With one wrong byte no header block of any real peer could be decoded. Therefore the tests
//! compare lengths and checksums with the published ones.

use std::sync::LazyLock;

use crate::Version;

/// The bytes that both ends put into the window before the first byte of a direction.
#[derive(Debug)]
pub(crate) struct Dictionary {
    /// The bytes.
    pub(crate) bytes: &'static [u8],
    /// Their Adler-32 checksum, which the zlib header contains.
    pub(crate) id: u32,
}

impl Dictionary {
    /// Returns the dictionary of a version.
    pub(crate) const fn of(version: Version) -> &'static Self {
        match version {
            Version::V2 => &V2,
            Version::V3 | Version::V3_1 => &V3,
        }
    }

    /// Returns the position of a header name in the dictionary, if it is one of the words there.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        static WORDS: LazyLock<[Vec<Word>; 2]> = LazyLock::new(|| [words(&V2), words(&V3)]);
        let words = &WORDS[usize::from(self.id == V3.id)];
        let index = words.binary_search_by_key(&name, |word| word.name).ok()?;
        Some(words[index].at)
    }
}

/// A word and its position in a dictionary.
#[derive(Debug)]
struct Word {
    name: &'static [u8],
    at: usize,
}

/// Finds the words of the SPDY/3 dictionary, which contains their lengths, in a dictionary. Returns
/// them sorted.
fn words(dictionary: &Dictionary) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = &V3.bytes[..V3_WORDS];
    while let Some((length, bytes)) = rest.split_first_chunk::<4>() {
        let (name, bytes) = bytes.split_at(u32::from_be_bytes(*length) as usize);
        rest = bytes;
        // In SPDY/3 the length before a word can be part of the same match.
        let length = if dictionary.id == V3.id {
            &length[..]
        } else {
            &[]
        };
        let wanted = [length, name].concat();
        let mut places = dictionary.bytes.windows(wanted.len());
        if let Some(at) = places.position(|place| place == wanted) {
            words.push(Word {
                name,
                at: at + length.len(),
            });
        }
    }
    words.sort_unstable_by_key(|word| word.name);
    words
}

/// SPDY/2: words without separators, and a NUL at the end, which belongs to the dictionary. The
/// spelling `if-unmodifiedsince` is genuine.
static V2: Dictionary = Dictionary {
    id: 0xdfa2_51b2,
    bytes: b"\
        optionsgetheadpostputdeletetraceaccept\
        accept-charsetaccept-encodingaccept-languageauthorizationexpect\
        fromhostif-modified-sinceif-matchif-none-match\
        if-rangeif-unmodifiedsincemax-forwardsproxy-authorization\
        rangerefererteuser-agent\
        100101200201202203204205206\
        300301302303304305306307\
        400401402403404405406407408409410411412413414415416417\
        500501502503504505\
        accept-rangesageetaglocationproxy-authenticatepublic\
        retry-afterservervarywarningwww-authenticate\
        allowcontent-basecontent-encodingcache-control\
        connectiondatetrailertransfer-encoding\
        upgradeviawarningcontent-language\
        content-lengthcontent-locationcontent-md5content-range\
        content-typeetagexpireslast-modifiedset-cookie\
        MondayTuesdayWednesdayThursdayFridaySaturdaySunday\
        JanFebMarAprMayJunJulAugSepOctNovDec\
        chunkedtext/htmlimage/pngimage/jpgimage/gifapplication/xmlapplication/xhtml\
        text/plainpublicmax-agecharset=iso-8859-1utf-8gzipdeflate\
        HTTP/1.1statusversionurl\0",
};

/// SPDY/3 and SPDY/3.1: words after their lengths, as in a header block, and then words without
/// lengths.
static V3: Dictionary = Dictionary {
    id: 0xe3c6_a7c2,
    bytes: b"\
        \0\0\0\x07options\0\0\0\x04head\0\0\0\x04post\0\0\0\x03put\0\0\0\x06delete\
        \0\0\0\x05trace\0\0\0\x06accept\0\0\0\x0eaccept-charset\0\0\0\x0faccept-encoding\
        \0\0\0\x0faccept-language\0\0\0\x0daccept-ranges\0\0\0\x03age\0\0\0\x05allow\
        \0\0\0\x0dauthorization\0\0\0\x0dcache-control\0\0\0\x0aconnection\
        \0\0\0\x0ccontent-base\0\0\0\x10content-encoding\0\0\0\x10content-language\
        \0\0\0\x0econtent-length\0\0\0\x10content-location\0\0\0\x0bcontent-md5\
        \0\0\0\x0dcontent-range\0\0\0\x0ccontent-type\0\0\0\x04date\0\0\0\x04etag\
        \0\0\0\x06expect\0\0\0\x07expires\0\0\0\x04from\0\0\0\x04host\0\0\0\x08if-match\
        \0\0\0\x11if-modified-since\0\0\0\x0dif-none-match\0\0\0\x08if-range\
        \0\0\0\x13if-unmodified-since\0\0\0\x0dlast-modified\0\0\0\x08location\
        \0\0\0\x0cmax-forwards\0\0\0\x06pragma\0\0\0\x12proxy-authenticate\
        \0\0\0\x13proxy-authorization\0\0\0\x05range\0\0\0\x07referer\0\0\0\x0bretry-after\
        \0\0\0\x06server\0\0\0\x02te\0\0\0\x07trailer\0\0\0\x11transfer-encoding\
        \0\0\0\x07upgrade\0\0\0\x0auser-agent\0\0\0\x04vary\0\0\0\x03via\0\0\0\x07warning\
        \0\0\0\x10www-authenticate\0\0\0\x06method\0\0\0\x03get\0\0\0\x06status\0\0\0\x06200 OK\
        \0\0\0\x07version\0\0\0\x08HTTP/1.1\0\0\0\x03url\0\0\0\x06public\0\0\0\x0aset-cookie\
        \0\0\0\x0akeep-alive\0\0\0\x06origin\
        100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
        203 Non-Authoritative Information204 No Content\
        301 Moved Permanently400 Bad Request401 Unauthorized\
        403 Forbidden404 Not Found\
        500 Internal Server Error501 Not Implemented\
        503 Service Unavailable\
        Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec \
        00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
        chunked,text/html,image/png,image/jpg,image/gif,\
        application/xml,application/xhtml+xml,\
        text/plain,text/javascript,\
        publicprivatemax-age=\
        gzip,deflate,sdch\
        charset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
};

/// The length of the part of the SPDY/3 dictionary whose words have lengths.
const V3_WORDS: usize = 849;

#[cfg(test)]
mod tests {
    use super::*;

    fn adler32(bytes: &[u8]) -> u32 {
        let (low, high) = bytes.iter().fold((1, 0), |(low, high), byte| {
            let low = (low + u32::from(*byte)) % 65_521;
            (low, (high + low) % 65_521)
        });
        high << 16 | low
    }

    #[test]
    fn dictionaries_are_the_published_ones() {
        for (version, length, id) in [
            (Version::V2, 907, 0xdfa2_51b2),
            (Version::V3, 1423, 0xe3c6_a7c2),
            (Version::V3_1, 1423, 0xe3c6_a7c2),
        ] {
            let dictionary = Dictionary::of(version);
            assert_eq!(dictionary.bytes.len(), length, "{version}");
            assert_eq!(adler32(dictionary.bytes), id, "{version}");
            assert_eq!(dictionary.id, id, "{version}");
        }
    }

    #[test]
    fn header_names_are_found_with_their_lengths_in_v3() {
        let v3 = Dictionary::of(Version::V3_1);
        for (name, place) in [
            ("options", 4),
            ("age", 140),
            ("set-cookie", 815),
            ("origin", 843),
        ] {
            assert_eq!(v3.find(name.as_bytes()), Some(place));
            assert!(v3.bytes[place..].starts_with(name.as_bytes()));
            assert_eq!(usize::from(v3.bytes[place - 1]), name.len());
        }
        assert_eq!(v3.find(b"chunked"), None);
        assert_eq!(v3.find(b""), None);

        let v2 = Dictionary::of(Version::V2);
        let place = v2.find(b"content-length").unwrap();
        assert!(v2.bytes[place..].starts_with(b"content-length"));
        assert_eq!(v2.find(b"pragma"), None);
    }
}
