//! The words of messages: in every language, on every channel, and when operators change them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use countersign::delivery::{Written, words::Templates};
use countersign_core::{
    Channel, Destination, Letter, Locale, Secret, Timestamp,
    message::{CodePurpose, Notice, Words},
};
use std::{fmt::Write, fs, time::Duration};
use tempfile::TempDir;

const LANGUAGES: [&str; 7] = ["en", "de", "fr", "es", "pt", "ja", "ar"];
const PURPOSES: [CodePurpose; 3] = [CodePurpose::Activation, CodePurpose::Verification, CodePurpose::SignIn];

fn built_in() -> Templates {
    Templates::load(None, None).expect("the built-in words are right")
}

/// Writes a letter the moment it is asked for.
fn write(templates: &Templates, letter: &Letter) -> countersign::error::Result<Written> {
    templates.write(letter, letter.at)
}

fn letter(channel: Channel, locale: &str, words: Words) -> Letter {
    let to = if channel == Channel::Mail { "ada@example.com" } else { "+12025550143" };
    let at = Timestamp::from_seconds(1_795_341_600);
    Letter {
        to: Destination::parse(channel, "to", to).expect("a destination"),
        locale: Locale::parse("locale", locale).expect("a locale"),
        product: "Example Corp".into(),
        name: "Ada Lovelace".into(),
        at,
        expires_at: at.after(Duration::from_secs(600)),
        words,
    }
}

fn code(purpose: CodePurpose) -> Words {
    Words::Code { code: Secret::new("123456".into()), purpose }
}

fn link() -> Words {
    Words::EnrolmentLink { url: Secret::new("https://mfa.example.com/enrol?token=csl_aGVsbG8".into()) }
}

fn notice(what: Notice) -> Words {
    about(what, "totp")
}

fn about(what: Notice, concerns: &str) -> Words {
    Words::Notice { what, concerns: Some(concerns.into()), ip: Some("192.0.2.7".into()) }
}

/// Returns everything that is said on a channel.
fn everything(channel: Channel) -> Vec<Words> {
    let notices = if channel == Channel::Voice { &[][..] } else { &Notice::ALL };
    let codes = PURPOSES.into_iter().map(code);
    let notices = notices.iter().flat_map(|what| match what {
        Notice::RecoveryCodeUsed | Notice::RecoverySignIn => {
            vec![about(*what, "recovery"), about(*what, "emergency")]
        }
        _ => vec![notice(*what)],
    });
    let link = (channel == Channel::Mail).then(link);
    codes.chain(notices).chain(link).chain([Words::Test]).collect()
}

fn mail(written: Written) -> (String, String, String) {
    let Written::Mail { subject, text, html, .. } = written else { panic!("not a mail") };
    (subject.expose().clone(), text.expose().clone(), html.expose().clone())
}

fn sms(written: Written) -> String {
    let Written::Sms { text } = written else { panic!("not a text message") };
    text.expose().clone()
}

/// Returns all texts of a message, one after the other.
fn texts(written: &Written) -> String {
    match written {
        Written::Mail { subject, text, html, .. } => {
            [subject, text, html].map(|part| part.expose().clone()).join("\n")
        }
        Written::Sms { text } | Written::Voice { text, .. } => text.expose().clone(),
    }
}

/// Returns the encoding and the number of messages a text takes (3GPP TS 23.038 §6.2.1 and 23.040 §9.2.3.24.1).
fn segments(text: &str) -> (&'static str, usize) {
    const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
    const EXTENDED: &str = "^{}\\[~]|€";
    let septets = text.chars().map(|c| match c {
        _ if BASIC.contains(c) => Some(1),
        _ if EXTENDED.contains(c) => Some(2),
        _ => None,
    });
    let pieces =
        |length: usize, one: usize, each: usize| if length <= one { 1 } else { length.div_ceil(each) };
    match septets.sum::<Option<usize>>() {
        Some(length) => ("GSM-7", pieces(length, 160, 153)),
        None => ("UCS-2", pieces(text.encode_utf16().count(), 70, 67)),
    }
}

#[test]
fn all_messages_are_as_people_read_them() {
    let templates = Templates::load(None, Some("example.com")).expect("load");
    for language in LANGUAGES {
        let mut shown = String::new();
        for channel in Channel::ALL {
            for words in everything(channel) {
                let what = words.name();
                let written = write(&templates, &letter(channel, language, words)).expect("written");
                let text = match &written {
                    Written::Mail { subject, text, .. } => {
                        format!("{}\n\n{}", subject.expose(), text.expose())
                    }
                    other => texts(other),
                };
                writeln!(shown, "=== {channel}, {what}\n{text}\n").expect("a string takes it");
            }
        }
        insta::assert_snapshot!(format!("words_{language}"), shown);
    }
}

#[test]
fn the_page_of_a_mail_is_as_mail_programs_get_it() {
    let (_, _, code_in_arabic) =
        mail(write(&built_in(), &letter(Channel::Mail, "ar", code(CodePurpose::SignIn))).expect("written"));
    let (_, _, notice_in_german) =
        mail(write(&built_in(), &letter(Channel::Mail, "de", notice(Notice::FactorAdded))).expect("written"));

    insta::assert_snapshot!("page_of_a_code_in_arabic", code_in_arabic);
    insta::assert_snapshot!("page_of_a_notice_in_german", notice_in_german);
}

#[test]
fn a_code_says_for_whom_how_long_and_no_link() {
    let templates = Templates::load(None, Some("example.com")).expect("load");
    for language in LANGUAGES {
        for channel in Channel::ALL {
            for purpose in PURPOSES {
                let text =
                    texts(&write(&templates, &letter(channel, language, code(purpose))).expect("written"));

                assert!(text.contains("Example Corp") && text.contains("10"), "{language} {channel}: {text}");
                assert!(!text.contains("http") && !text.contains("://"), "{language} {channel}: {text}");
            }
        }
    }
}

#[test]
fn a_mail_keeps_its_code_out_of_the_subject_and_loads_nothing() {
    let templates = built_in();
    for language in LANGUAGES {
        for words in everything(Channel::Mail) {
            let links = usize::from(matches!(words, Words::EnrolmentLink { .. }));
            let (subject, text, html) =
                mail(write(&templates, &letter(Channel::Mail, language, words)).expect("written"));

            assert!(!subject.contains("123456") && !subject.contains('\n'), "{subject}");
            assert!(!html.contains("src=") && !html.contains("url("), "{html}");
            assert_eq!(html.matches("href").count(), links, "{html}");
            assert!(!text.contains("\n\n\n"), "{text}");
        }
    }
}

/// Checks that every tag is closed by its own, as both HTML and XML ask for.
fn assert_well_formed(html: &str) {
    let mut open = Vec::new();
    for piece in html.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').expect("a tag ends");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        match tag {
            _ if tag.starts_with('!') || tag.ends_with('/') => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name), "{html}"),
            _ => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn pages_are_well_formed_and_name_language_and_direction() {
    let templates = built_in();
    for language in LANGUAGES {
        let direction = if language == "ar" { "rtl" } else { "ltr" };
        for words in everything(Channel::Mail) {
            let (_, _, html) =
                mail(write(&templates, &letter(Channel::Mail, language, words)).expect("written"));

            assert_well_formed(&html);
            assert!(html.contains(&format!("<html lang=\"{language}\" dir=\"{direction}\">")), "{html}");
            assert!(html.contains(&format!("<div lang=\"{language}\" dir=\"{direction}\"")), "{html}");
        }
    }
}

#[test]
fn a_code_keeps_its_order_within_text_from_right_to_left() {
    let templates = built_in();
    let (_, _, html) =
        mail(write(&templates, &letter(Channel::Mail, "ar", code(CodePurpose::SignIn))).expect("written"));
    let text =
        sms(write(&templates, &letter(Channel::Sms, "ar", code(CodePurpose::SignIn))).expect("written"));

    assert!(html.contains("<bdi dir=\"ltr\">123456</bdi>"), "{html}");
    assert!(text.starts_with("123456 "), "{text}");
    assert!(!text.contains(
        |c| matches!(c, '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    ));
}

#[test]
fn the_language_is_the_nearest_to_what_a_person_prefers() {
    let templates = built_in();
    for (locale, language, voice) in [
        ("de", "de", "de-DE"),
        ("de-AT", "de", "de-AT"),
        ("pt-BR", "pt", "pt-BR"),
        ("pt-PT", "pt", "pt-PT"),
        ("es-419", "es", "es-ES"),
        ("ja-Jpan-JP", "ja", "ja-JP"),
        ("ar", "ar", "ar-XA"),
        ("nl-NL", "en", "en-US"),
        ("en-GB", "en", "en-GB"),
    ] {
        let mailed = write(&templates, &letter(Channel::Mail, locale, Words::Test)).expect("written");
        let called = write(&templates, &letter(Channel::Voice, locale, Words::Test)).expect("written");

        let Written::Mail { language: written, .. } = mailed else { panic!("not a mail") };
        let Written::Voice { language: spoken, .. } = called else { panic!("not a call") };
        assert_eq!((written.as_str(), spoken.as_str()), (language, voice), "{locale}");
    }
}

#[test]
fn a_call_says_the_code_twice_digit_by_digit_and_no_notices() {
    let templates = built_in();
    let call = write(&templates, &letter(Channel::Voice, "en", code(CodePurpose::SignIn))).expect("written");

    assert_eq!(texts(&call).matches("1, 2, 3, 4, 5, 6").count(), 2);
    assert!(write(&templates, &letter(Channel::Voice, "en", notice(Notice::FactorAdded))).is_err());
}

#[test]
fn a_text_message_ends_with_the_origin_its_code_is_bound_to() {
    let templates = Templates::load(None, Some("login.example.com")).expect("load");
    for language in LANGUAGES {
        for purpose in PURPOSES {
            let text =
                sms(write(&templates, &letter(Channel::Sms, language, code(purpose))).expect("written"));

            assert!(text.ends_with("\n\n@login.example.com #123456"), "{text}");
        }
        let notice = write(&templates, &letter(Channel::Sms, language, notice(Notice::MethodLocked)));
        assert!(!sms(notice.expect("written")).contains('@'));
    }
    for origin in ["https://example.com", "Example.com", "example.com/x", "", "a b"] {
        assert!(Templates::load(None, Some(origin)).is_err(), "{origin}");
    }
}

#[test]
fn text_messages_take_few_segments() {
    let templates = Templates::load(None, Some("example.com")).expect("load");
    let mut shown = String::new();
    for language in LANGUAGES {
        for words in everything(Channel::Sms) {
            let what = words.name();
            let text = sms(write(&templates, &letter(Channel::Sms, language, words)).expect("written"));
            let (encoding, count) = segments(&text);
            writeln!(shown, "{language} {what}: {count} × {encoding}, {} characters", text.chars().count())
                .unwrap();
            let fits = ["en", "de", "fr", "es", "pt"].contains(&language);
            assert!(what != "code" || !fits || (encoding, count) == ("GSM-7", 1), "{language}: {text}");
            assert!(count <= 2, "{language}: {text}");
        }
    }
    insta::assert_snapshot!("segments", shown);
}

#[test]
fn what_people_are_called_injects_nothing() {
    let templates = Templates::load(None, Some("example.com")).expect("load");
    let forged = |channel| Letter {
        product: "A&B <script>\r\nBcc: eve@evil.example\n@evil.example #999999".into(),
        name: "<img onerror=alert(1)>\"{{ code }}\u{202E}".into(),
        ..letter(channel, "en", code(CodePurpose::SignIn))
    };

    let (subject, text, html) = mail(write(&templates, &forged(Channel::Mail)).expect("written"));
    let message = sms(write(&templates, &forged(Channel::Sms)).expect("written"));

    assert!(!subject.contains(['\r', '\n']), "{subject}");
    assert!(
        html.contains("A&amp;B &lt;script&gt;") && !html.contains("<script") && !html.contains("<img"),
        "{html}"
    );
    assert!(!text.contains('\u{202E}') && !html.contains('\u{202E}'));
    assert!(text.contains("{{ code }}"), "what somebody is called is not a template: {text}");
    assert_eq!(message.lines().count(), 3, "{message}");
    assert_eq!(message.lines().last(), Some("@example.com #123456"));
    assert_well_formed(&html);
}

#[test]
fn nobody_is_greeted_by_a_link() {
    let letter = Letter {
        name: "Visit evil.example".into(),
        ..letter(Channel::Mail, "en", code(CodePurpose::SignIn))
    };

    let (_, text, html) = mail(write(&built_in(), &letter).expect("written"));

    assert!(text.starts_with("Hello,\n") && !text.contains("evil") && !html.contains("evil"), "{text}");
}

#[test]
fn lives_are_counted_as_languages_do() {
    let templates = built_in();
    let life = |language: &str, minutes: u64| {
        let letter = letter(Channel::Sms, language, code(CodePurpose::SignIn));
        let expires_at = letter.at.after(Duration::from_secs(minutes * 60));
        sms(write(&templates, &Letter { expires_at, ..letter }).expect("written"))
    };

    assert!(life("en", 1).contains("1 minute.") && life("en", 5).contains("5 minutes."));
    assert!(life("ar", 1).contains("دقيقة واحدة") && life("ar", 2).contains("دقيقتين"));
    assert!(life("ar", 10).contains("10 دقائق") && life("ar", 15).contains("15 دقيقة"));
}

/// A late mail said for how long its code had been good for.
#[test]
fn a_late_message_says_how_long_its_code_is_still_good_for() {
    let letter = letter(Channel::Mail, "en", code(CodePurpose::SignIn));
    for (late, life) in
        [(0, "10 minutes"), (10, "10 minutes"), (11, "9 minutes"), (531, "1 minute"), (599, "1 minute")]
    {
        let now = letter.at.after(Duration::from_secs(late));

        let (subject, text, html) = mail(built_in().write(&letter, now).expect("written"));

        let said = format!("The code is good for {life}.");
        assert!(text.contains(&said) && html.contains(&said), "{late} seconds late: {text}");
        assert!(subject.ends_with("(10:00 UTC)"), "the clock is that of the asking: {subject}");
    }
}

/// A test bears the organisation's name, which is nobody to greet.
#[test]
fn a_test_greets_nobody_by_name() {
    for language in LANGUAGES {
        let (_, text, html) =
            mail(write(&built_in(), &letter(Channel::Mail, language, Words::Test)).expect("written"));

        assert!(!text.contains("Ada") && !html.contains("Ada"), "{text}");
    }
}

/// People were told of a recovery code when the emergency code was used.
#[test]
fn a_notice_tells_the_emergency_code_from_recovery_codes() {
    const NAMES: [(&str, &str, &str); 7] = [
        ("en", "recovery code", "emergency code"),
        ("de", "Wiederherstellungscode", "Notfallcode"),
        ("fr", "code de récupération", "code d’urgence"),
        ("es", "código de recuperación", "código de emergencia"),
        ("pt", "código de recuperação", "código de emergência"),
        ("ja", "リカバリーコード", "緊急用コード"),
        ("ar", "رمز استرداد", "رمز طوارئ"),
    ];
    let templates = built_in();
    for (language, recovery, emergency) in NAMES {
        for what in [Notice::RecoveryCodeUsed, Notice::RecoverySignIn] {
            for (concerns, said, unsaid) in
                [("recovery", recovery, emergency), ("emergency", emergency, recovery)]
            {
                let letter = letter(Channel::Mail, language, about(what, concerns));

                let (subject, text, _) = mail(write(&templates, &letter).expect("written"));

                assert!(subject.contains(said) && !subject.contains(unsaid), "{subject}");
                assert!(!text.contains(unsaid), "{text}");
            }
        }
    }
}

#[test]
fn what_a_notice_does_not_know_it_does_not_mention() {
    let words = Words::Notice { what: Notice::FactorsReset, concerns: None, ip: None };
    let (_, text, html) =
        mail(write(&built_in(), &letter(Channel::Mail, "en", words.clone())).expect("written"));
    let message = sms(write(&built_in(), &letter(Channel::Sms, "en", words)).expect("written"));

    assert!(text.contains("When: 2026-11-22 10:00 UTC\n\nIf"), "{text}");
    assert!(!html.contains("Method") && !html.contains("From the address"), "{html}");
    assert_eq!(
        message,
        "Example Corp: All your sign-in methods were removed\n2026-11-22 10:00 UTC\nNot you? Tell your help desk."
    );
}

/// A folder of an operator's own words.
struct Overrides(TempDir);

impl Overrides {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn load(&self) -> Result<Templates, String> {
        let folder = format!("{}/", self.0.path().display());
        Templates::load(Some(self.0.path()), None).map_err(|error| error.to_string().replace(&folder, "~/"))
    }

    fn sign_in_sms(&self, locale: &str) -> String {
        let templates = self.load().expect("load");
        sms(write(&templates, &letter(Channel::Sms, locale, code(CodePurpose::SignIn))).expect("written"))
    }
}

#[test]
fn operators_change_single_strings_and_whole_layouts() {
    let own = Overrides::with(&[
        ("de.toml", "[sign_in]\nsms = \"{{ product }}-PIN: {{ code }}\"\n"),
        ("de-AT.toml", "[sign_in]\nsms = \"Servus! {{ code }}\"\n"),
        (
            "mail.txt",
            "{% if kind == \"code\" %}{{ code }}{% else %}{{ words.subject }}{% endif %}{{ url | default }}",
        ),
        (".hidden", "not ours"),
    ]);

    assert_eq!(own.sign_in_sms("de-CH"), "Example Corp-PIN: 123456");
    assert_eq!(own.sign_in_sms("de-AT"), "Servus! 123456");
    let templates = own.load().expect("load");
    let (_, text, html) =
        mail(write(&templates, &letter(Channel::Mail, "de-AT", code(CodePurpose::SignIn))).expect("written"));
    assert_eq!(text, "123456");
    assert!(html.contains("<html lang=\"de-AT\"") && html.contains("Guten Tag Ada Lovelace,"), "{html}");
}

#[test]
fn a_further_language_is_one_file() {
    let english = include_str!("../../src/delivery/words/en.toml");
    let dutch = english.replace("en-US", "nl-NL").replace("is your code to sign in to", "is uw code voor");
    let own = Overrides::with(&[("nl.toml", &dutch)]);

    assert!(own.sign_in_sms("nl-BE").starts_with("123456 is uw code voor Example Corp"));
}

#[test]
fn a_slip_in_an_operators_words_stops_the_start_by_file_and_line() {
    let html = include_str!("../../src/delivery/words/mail.html");
    let hidden = html.replacen("<h1", "{% if kind == \"never\" %}{{ prodcut }}{% endif %}\n<h1", 1);
    let linking = html.replacen("<h1", "<a href=\"//login.example\">{{ product }}</a>\n<h1", 1);
    let loading = html.replacen("<h1", "{% if kind == \"never\" %}<img src=\"//x\">{% endif %}\n<h1", 1);
    let hiding = html.replacen("<h1", "{% set src = \"src\" %}<img {{ src }}=x>\n<h1", 1);
    for (name, text, complaint) in [
        (
            "de.toml",
            "[sign_in]\n\nlead = \"{{ cod }}\"",
            "read words ~/de.toml, line 3, sign_in.lead: unknown variable cod",
        ),
        (
            "de.toml",
            "[sign_in]\nlead = \"{{ code }}\"",
            "try words ~/de.toml, line 2, sign_in.lead: variable code is not given here (sign_in by mail in de)",
        ),
        (
            "de.toml",
            "[sign_in]\nlead = \"{{ code\"",
            "read words ~/de.toml, line 2: sign_in.lead: syntax error: unexpected end of input, expected end of variable block",
        ),
        (
            "de.toml",
            "[sign_in]\nlaed = \"x\"",
            "read words ~/de.toml, line 2, sign_in.laed: no message has this string",
        ),
        ("de.toml", "[sign_in]\nlead = 5", "read words ~/de.toml, line 2: sign_in.lead: expected a string"),
        (
            "de.toml",
            "[sign_in]\nlead = ",
            "read words ~/de.toml, line 2: string values must be quoted, expected literal string",
        ),
        ("de.toml", "direction = \"up\"", "read words ~/de.toml, line 1: direction: expected ltr or rtl"),
        (
            "de.toml",
            "[sign_in]\nsms = \"hello\"",
            "try words ~/de.toml, line 2, sign_in.sms: the text message lacks the code (sign_in by sms in de)",
        ),
        (
            "de.toml",
            "[code]\nspoken = \"{{ digits }}\"",
            "try words ~/de.toml, line 2, code.spoken: the call does not say the code twice (activation by voice in de)",
        ),
        (
            "de.toml",
            "[sign_in]\nlead = \"https://example.com\"",
            "try words ~/de.toml, line 2, sign_in.lead: the text has a link (sign_in by mail in de)",
        ),
        ("nl.toml", "direction = \"ltr\"", "read words ~/nl.toml, line 1: activation.lead is missing"),
        ("mail.html", &hidden, "read words ~/mail.html, line 14: unknown variable prodcut"),
        (
            "mail.txt",
            "{{ product }}\n{{ words.laed }}\n",
            "try words ~/mail.txt, line 2: variable words.laed is not given here (test by mail in ar)",
        ),
        (
            "mail.txt",
            "{{ words.subject }}",
            "try words ~/mail.txt: the text lacks the code (activation by mail in ar)",
        ),
        ("mail.txt", "{% if %}", "read words ~/mail.txt, line 1: syntax error: unexpected end of block"),
        (
            "mail.txt",
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
            "try words ~/mail.txt, line 1: engine ran out of fuel (test by mail in ar)",
        ),
        (
            "mail.subject",
            "{% if kind == 'code' %}{{ code }}{% else %}{{ words.subject }}{% endif %}",
            "try words ~/mail.subject: the subject shows the code (activation by mail in ar)",
        ),
        (
            "de.toml",
            "[any]\ngreeting = \"{{ minutes }}\"",
            "try words ~/de.toml, line 2, any.greeting: variable minutes is not given here (test by mail in de)",
        ),
        (
            "de.toml",
            "[sign_in]\nlead = \"Siehe login.example/code\"",
            "try words ~/de.toml, line 2, sign_in.lead: the text has a link (sign_in by mail in de)",
        ),
        (
            "mail.html",
            &linking,
            "try words ~/mail.html, line 14: the HTML has a link (activation by mail in ar)",
        ),
        ("mail.html", &loading, "read words ~/mail.html, line 14: the HTML loads something from elsewhere"),
        (
            "mail.html",
            &hiding,
            "try words ~/mail.html, line 14: the HTML loads something from elsewhere (test by mail in ar)",
        ),
        (
            "de.toml",
            "[factor_added]\nwhat = '<img src=\"//x.example/a.png\">'",
            "try words ~/de.toml, line 2, factor_added.what: the HTML loads something from elsewhere (factor_added by mail in de)",
        ),
        (
            "mail.txt",
            "{% if kind == \"code\" %}{{ code }}{% else %}{{ words.subject }}{% endif %}",
            "try words ~/mail.txt: the text lacks the link (enrolment_link by mail in ar)",
        ),
        (
            "mail.txt",
            "{% if kind != \"notice\" %}{{ code|default }}{{ words.subject }}{% endif %}",
            "try words ~/mail.txt: the text is empty (factor_added by mail in ar)",
        ),
        (
            "sms.txt",
            "{% if kind != \"notice\" %}{{ words.sms }}{% endif %}",
            "try words ~/sms.txt: the text message is empty (factor_added by sms in ar)",
        ),
        (
            "de.toml",
            "[test]\nsms = \" \"",
            "try words ~/de.toml, line 2, test.sms: the text message is empty (test by sms in de)",
        ),
        (
            "mail.htm",
            "",
            "read words ~/mail.htm: expected mail.subject, mail.txt, mail.html, sms.txt, voice.txt or a language such as de.toml",
        ),
        (
            "german.toml",
            "",
            "read words ~/german.toml: expected mail.subject, mail.txt, mail.html, sms.txt, voice.txt or a language such as de.toml",
        ),
    ] {
        let refused = Overrides::with(&[(name, text)]).load().expect_err(complaint);

        assert_eq!(refused, complaint);
    }
}

/// The line that binds a code to its origin was taken for the message's own.
#[test]
fn a_text_message_says_its_code_even_where_it_is_bound_to_an_origin() {
    let own = Overrides::with(&[("de.toml", "[sign_in]\nsms = \"hello\"")]);

    let refused = Templates::load(Some(own.0.path()), Some("example.com")).unwrap_err().to_string();

    assert!(refused.contains("the text message lacks the code"), "{refused}");
}

#[test]
fn a_page_may_bring_its_pictures_along() {
    let html = include_str!("../../src/delivery/words/mail.html");
    let picture = "<img alt=\"\" src=\"data:image/png;base64,iVBORw0KGgo=\" />\n<h1";
    let own = Overrides::with(&[("mail.html", &html.replacen("<h1", picture, 1))]);

    own.load().expect("nothing is loaded");
}

#[test]
fn what_is_built_in_passes_its_own_trial() {
    Overrides::with(&[]).load().expect("an empty folder has everything tried");
}

#[test]
fn a_folder_that_is_not_there_stops_the_start() {
    let refused = Templates::load(Some("/nowhere/words".as_ref()), None).unwrap_err().to_string();

    assert!(refused.starts_with("read words /nowhere/words: "), "{refused}");
}
