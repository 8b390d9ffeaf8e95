//! Spans of time as people write them: `90s`, `30m`, `1h`, `7d`.

/// Seconds of a span.
pub fn parse(text: &str) -> Result<u64, String> {
    let right = "a number with s, m, h or d, such as 30m, 1h or 7d";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no span of time; use {right}"))?;
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(format!("`{unit}` is no unit of time; use {right}")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too long"))
}

/// A span for people: `45 s`, `12 min`, `3 h`, `5 d`.
pub fn words(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn spans() {
        assert_eq!(super::parse("1h"), Ok(3600));
        assert_eq!(super::parse("7d"), Ok(604_800));
        assert!(super::parse("soon").unwrap_err().contains("30m"));
        assert!(super::parse("5w").unwrap_err().contains("`w`"));
        assert!(super::parse("99999999999999999999d").is_err());
        assert_eq!(super::words(7200), "2 h");
    }
}
