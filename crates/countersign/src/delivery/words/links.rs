//! What leads or reaches out of a message. Who is used to links in messages with codes follows those of others, too;
//! and whoever is asked for a picture learns who reads, when and where.

/// Elements that fetch something, or change where everything is fetched from.
const FETCHING: [&str; 8] = ["<base", "<embed", "<iframe", "<image", "<link", "<object", "<script", "<use"];
/// Attributes that name what is fetched.
const SOURCES: [&str; 4] = ["src", "srcset", "background", "poster"];

/// Tells whether text has a link, or what phones and mail programs make one of.
pub(super) fn has_link(text: &str) -> bool {
    let text = text.replace("&#x2f;", "/").to_lowercase();
    ["://", "www.", "mailto:", "href"].iter().any(|sign| text.contains(sign))
        || text.match_indices(['/', '?', '#']).any(|(at, sign)| {
            let leads_on = sign == "/" || text[at + 1..].starts_with(char::is_alphanumeric);
            leads_on && ends_with_domain(&text[..at])
        })
}

/// Tells whether the last word is a domain, perhaps with a port.
fn ends_with_domain(text: &str) -> bool {
    let without_port = text.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix(':');
    let text = without_port.unwrap_or(text);
    let is_of_domain = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
    let word = text.rsplit(|c| !is_of_domain(c)).next().unwrap_or_default();
    word.rsplit_once('.').is_some_and(|(domain, last)| {
        domain.ends_with(char::is_alphanumeric)
            && last.chars().count() >= 2
            && last.chars().all(char::is_alphabetic)
    })
}

/// Tells whether HTML loads something that it does not bring along.
pub(super) fn loads(html: &str) -> bool {
    let html = html.to_ascii_lowercase();
    FETCHING.iter().any(|element| html.contains(element))
        || ["@import", "image-set("].iter().any(|sign| html.contains(sign))
        || html.split("url(").skip(1).any(is_elsewhere)
        || SOURCES.iter().any(|attribute| has_source(&html, attribute))
}

/// Tells whether an attribute names something that is elsewhere.
fn has_source(html: &str, attribute: &str) -> bool {
    html.match_indices(attribute).any(|(at, _)| {
        let begins = html[..at].ends_with([' ', '\t', '\r', '\n', '/', '"', '\'']) || at == 0;
        let value = html[at + attribute.len()..].trim_start().strip_prefix('=');
        begins && value.is_some_and(is_elsewhere)
    })
}

/// Tells whether a reference, quoted or not, is to something outside of the page.
fn is_elsewhere(reference: &str) -> bool {
    let reference = reference.trim_start().trim_start_matches(['"', '\'']);
    !reference.starts_with("data:") && !reference.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_phones_make_a_link_of_is_one() {
        for text in [
            "https://x",
            "at x.example/foo.",
            "at x.example&#x2f;foo",
            "ÜBER.example:8443/",
            "WWW.x",
            "x.example?a=b",
            "mailto:ada",
            "<a href=//x>",
        ] {
            assert!(has_link(text), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_link_is_none() {
        for text in [
            "8 a.m./8 p.m.",
            "and/or, z.B./usw., 24.12./25.12.",
            "Not you? No.",
            "Only at login.example.com.",
            "code\n\n@example.com #123456",
            "<p style=\"font: 16px/1.5 sans\">The end.</p>",
        ] {
            assert!(!has_link(text), "{text}");
        }
    }

    #[test]
    fn a_page_loads_nothing_from_elsewhere() {
        for html in [
            "<img src=\"//x.example/a.png\">",
            "<img alt=''SRC = x>",
            "src='x'",
            "<td background=x>",
            "<style>p { background: URL( 'x' ) }</style>",
            "<style>@import 'x';</style>",
            "<link rel=stylesheet>",
            "<video poster=\"x\">",
            "<img srcset=x>",
        ] {
            assert!(loads(html), "{html}");
        }
        for html in [
            "<img src=\"data:image/png;base64,AA==\">",
            "<p style=\"background: url(#a)\">",
            "<td style=\"background: #fff\">the source = x",
        ] {
            assert!(!loads(html), "{html}");
        }
    }
}
