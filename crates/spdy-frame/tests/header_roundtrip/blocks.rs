//! Random blocks.

use spdy_frame::{HeaderBlock, Version};

use crate::support::Random;

/// The blocks of a session. Some names and values are repeated.
pub(crate) struct Blocks {
    random: Random,
    names: Vec<String>,
    values: Vec<Vec<u8>>,
    longest: usize,
}

impl Blocks {
    pub(crate) fn new(version: Version, seed: u64) -> Self {
        let mut names: Vec<String> = [
            ":status",
            ":version",
            ":path",
            "content-type",
            "date",
            "te",
            "x",
            "age",
            "cookie",
            "set-cookie",
            "authorization",
            "www-authenticate",
            "origin",
            "x-much-longer-name-than-others",
        ]
        .map(String::from)
        .to_vec();
        names.extend((0..40).map(|index| format!("x-{index}")));
        let mut values: Vec<Vec<u8>> = ["", "0", "200 OK", "HTTP/1.1", "text/html", "a\0b"]
            .map(|value| value.as_bytes().to_vec())
            .to_vec();
        let lengths = [
            1, 2, 3, 7, 8, 9, 30, 250, 255, 256, 257, 258, 259, 260, 261, 300, 520, 2000,
        ];
        values.extend(lengths.map(|length| vec![b'v'; length]));
        values.push((0x0e..=0xff).collect());
        Self {
            random: Random::new(seed),
            names,
            values,
            longest: if version == Version::V2 {
                65_535
            } else {
                150_000
            },
        }
    }

    pub(crate) fn next(&mut self) -> HeaderBlock {
        let random = &mut self.random;
        let mut block = HeaderBlock::new();
        let fields = match random.below(60) {
            0 => 0,
            1 => 200,
            _ => random.below(12),
        };
        for _ in 0..fields {
            let index = random.below(self.names.len());
            let name = match random.below(20) {
                0 => format!("y-{}", random.next()),
                _ => self.names[index].clone(),
            };
            // Most names have their own value, so that whole fields are repeated.
            let value = match random.below(12) {
                0 => (0..random.below(80))
                    .map(|_| 0x20 + random.below(90) as u8)
                    .collect(),
                1 if random.below(40) == 0 => vec![b'l'; random.below(self.longest)],
                2 => self.values[random.below(self.values.len())].clone(),
                _ => self.values[index % self.values.len()].clone(),
            };
            if block
                .get(&name)
                .is_some_and(|before| before.len() + value.len() > 60_000)
            {
                continue;
            }
            let added = if random.below(10) == 0 {
                block.append_sensitive(name, value)
            } else {
                block.append(name, value)
            };
            added.unwrap();
        }
        block
    }
}
