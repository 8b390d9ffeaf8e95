//! The header structure of rpm: an index of tags over a store of values, with a region tag in front
//! that says where the immutable part ends (rpm's `docs/manual/format.md`).

/// A value.
pub(super) enum Value {
    Text(String),
    /// Text that may be translated; there is only the language C.
    Translated(String),
    Texts(Vec<String>),
    Numbers16(Vec<u16>),
    Numbers32(Vec<u32>),
    Bytes(Vec<u8>),
}

impl Value {
    fn kind(&self) -> u32 {
        match self {
            Value::Numbers16(_) => 3,
            Value::Numbers32(_) => 4,
            Value::Text(_) => 6,
            Value::Bytes(_) => 7,
            Value::Texts(_) => 8,
            Value::Translated(_) => 9,
        }
    }

    fn count(&self) -> usize {
        match self {
            Value::Text(_) | Value::Translated(_) => 1,
            Value::Texts(texts) => texts.len(),
            Value::Numbers16(numbers) => numbers.len(),
            Value::Numbers32(numbers) => numbers.len(),
            Value::Bytes(bytes) => bytes.len(),
        }
    }

    fn alignment(&self) -> usize {
        match self {
            Value::Numbers16(_) => 2,
            Value::Numbers32(_) => 4,
            _ => 1,
        }
    }

    fn write(&self, store: &mut Vec<u8>) {
        let mut text = |text: &str| {
            store.extend(text.bytes());
            store.push(0);
        };
        match self {
            Value::Text(one) | Value::Translated(one) => text(one),
            Value::Texts(texts) => texts.iter().for_each(|one| text(one)),
            Value::Numbers16(numbers) => store.extend(numbers.iter().flat_map(|number| number.to_be_bytes())),
            Value::Numbers32(numbers) => store.extend(numbers.iter().flat_map(|number| number.to_be_bytes())),
            Value::Bytes(bytes) => store.extend(bytes),
        }
    }
}

/// Region of the signature header and of the main header.
pub(super) const SIGNATURES: u32 = 62;
/// Region of the main header.
pub(super) const IMMUTABLE: u32 = 63;
const BINARY: u32 = 7;
/// One entry of the index.
const ENTRY: u32 = 16;

/// Writes a header with these tags, which are sorted here.
pub(super) fn write(region: u32, mut tags: Vec<(u32, Value)>) -> Vec<u8> {
    tags.sort_by_key(|(tag, _)| *tag);
    let (mut index, mut store) = (Vec::new(), Vec::new());
    for (tag, value) in &tags {
        let alignment = value.alignment();
        store.resize(store.len().div_ceil(alignment) * alignment, 0);
        index.extend(entry(*tag, value.kind(), small(store.len()), small(value.count())));
        value.write(&mut store);
    }
    let entries = small(tags.len()) + 1;
    let region_entry = entry(region, BINARY, small(store.len()), ENTRY);
    // The trailer of the region counts back over the whole index.
    store.extend(entry(region, BINARY, (entries * ENTRY).wrapping_neg(), ENTRY));
    let mut out = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    out.extend(entries.to_be_bytes());
    out.extend(small(store.len()).to_be_bytes());
    out.extend(region_entry);
    out.extend(index);
    out.extend(store);
    out
}

fn entry(tag: u32, kind: u32, offset: u32, count: u32) -> Vec<u8> {
    [tag, kind, offset, count].iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// Headers are far below 4 GB.
pub(super) fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
