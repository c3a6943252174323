//! `multipart/form-data` (RFC 7578), as far as short text needs it.

/// Reads the parts of a body that have a name and are text; `None` if it is not what its type says.
pub(super) fn parts(content_type: &str, body: &[u8]) -> Option<Vec<(String, String)>> {
    let boundary = parameter(content_type, "boundary")?;
    let text = std::str::from_utf8(body).ok()?;
    let delimiter = format!("--{boundary}");
    let (_, rest) = text.split_once(&delimiter)?;
    let mut parts = Vec::new();
    let mut rest = rest;
    while let Some(part) = rest.strip_prefix("\r\n") {
        let (part, after) = part.split_once(&format!("\r\n{delimiter}"))?;
        let (head, value) = part.split_once("\r\n\r\n")?;
        parts.push((name_in(head)?, value.to_owned()));
        rest = after;
    }
    rest.starts_with("--").then_some(parts)
}

fn name_in(head: &str) -> Option<String> {
    let is_disposition = |line: &&str| {
        line.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case("content-disposition"))
    };
    parameter(head.split("\r\n").find(is_disposition)?, "name")
}

/// Returns a parameter of a header's value, with or without quotes.
fn parameter(header: &str, name: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.trim().split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::parts;

    const TYPE: &str = "multipart/form-data; boundary=\"x y\"";

    #[test]
    fn parts_are_read_by_name() {
        let body = "preamble\r\n--x y\r\nContent-Disposition: form-data; name=\"grant_type\"\r\n\r\npassword\r\n\
                    --x y\r\ncontent-disposition: form-data; name=a\r\nContent-Type: text/plain\r\n\r\n\
                    two\r\nlines\r\n--x y--\r\n";

        let read = parts(TYPE, body.as_bytes());

        let expected = [("grant_type", "password"), ("a", "two\r\nlines")];
        assert_eq!(read, Some(expected.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()));
    }

    #[test]
    fn what_is_cut_off_or_has_no_name_is_refused() {
        for body in [
            "",
            "--x y",
            "--x y\r\nContent-Disposition: form-data; name=a\r\n\r\none",
            "--x y\r\nContent-Type: text/plain\r\n\r\none\r\n--x y--",
            "--z\r\nContent-Disposition: form-data; name=a\r\n\r\none\r\n--z--",
        ] {
            assert_eq!(parts(TYPE, body.as_bytes()), None, "{body:?}");
        }
        assert_eq!(parts("multipart/form-data", b"--\r\n"), None);
    }
}
