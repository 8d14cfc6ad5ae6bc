//! Leaves out what is secret: keys, tokens, passwords. It is looked for in every file, though none should have any.

/// What stands in place of it.
const LEFT_OUT: &str = "[left out]";

/// Names whose value is secret, in lower case.
const NAMES: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "apikey",
    "api-key",
    "client-key-data",
    "private-key",
];

/// The text without secrets.
pub(in crate::cli) fn redacted(text: &str) -> String {
    let mut inside = false;
    let mut all = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let begins = line.contains("-----BEGIN") && line.contains("PRIVATE KEY");
        if begins && !inside {
            all.push_str(LEFT_OUT);
            all.push('\n');
        }
        if begins || inside {
            // A key on one line, as in JSON, ends there.
            inside = !line.contains("-----END");
            continue;
        }
        all.push_str(&of_line(line));
    }
    all
}

fn of_line(line: &str) -> String {
    without_tokens(&without_logins(&without_values(line)))
}

/// `password: X`, `"token": "X"`, `--secret=X`.
fn without_values(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let mut cuts: Vec<(usize, usize)> = Vec::new();
    for name in NAMES {
        for (at, _) in lower.match_indices(name) {
            // A part of a path, such as a Service's name, does not count.
            let before = lower[..at].chars().next_back();
            if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '/') {
                continue;
            }
            let rest = &line[at + name.len()..];
            let value = rest.trim_start_matches(['"', '\'', ' ']);
            let Some(value) = value.strip_prefix([':', '=']) else { continue };
            let value = value.trim_start_matches([' ', '"', '\'']);
            let scheme = ["Bearer ", "Basic "].iter().find_map(|scheme| value.strip_prefix(scheme));
            let value = scheme.unwrap_or(value);
            let length = value.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '&' | ';' | '}'));
            let length = length.unwrap_or(value.len());
            let begin = line.len() - value.len();
            if length > 0 && !cuts.iter().any(|(from, to)| (*from..*to).contains(&begin)) {
                cuts.push((begin, begin + length));
            }
        }
    }
    cuts.sort_unstable();
    replaced(line, &cuts)
}

/// `https://USER:PASSWORD@HOST`.
fn without_logins(line: &str) -> String {
    let cuts: Vec<(usize, usize)> = line
        .match_indices("://")
        .filter_map(|(at, _)| {
            let begin = at + 3;
            let rest = &line[begin..];
            let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'')).unwrap_or(rest.len());
            Some((begin, begin + rest[..end].rfind('@')?))
        })
        .collect();
    replaced(line, &cuts)
}

/// Tokens of service accounts (JWT), wherever they are.
fn without_tokens(line: &str) -> String {
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let cuts: Vec<(usize, usize)> = line
        .match_indices("eyJ")
        .filter_map(|(at, _)| {
            let rest = &line[at..];
            let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
            (rest[..end].matches('.').count() == 2 && end > 30).then_some((at, at + end))
        })
        .collect();
    // A token's own parts begin alike.
    let mut apart: Vec<(usize, usize)> = Vec::new();
    for cut in cuts {
        if apart.last().is_none_or(|last| cut.0 >= last.1) {
            apart.push(cut);
        }
    }
    replaced(line, &apart)
}

/// The line with these parts left out, which are in order and do not overlap.
fn replaced(line: &str, cuts: &[(usize, usize)]) -> String {
    let (mut all, mut at) = (String::new(), 0);
    for (from, to) in cuts {
        all.push_str(line.get(at..*from).unwrap_or_default());
        all.push_str(LEFT_OUT);
        at = *to;
    }
    all + line.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tokens_and_passwords_are_left_out() {
        let token = format!("eyJhbGciOiJSUzI1NiJ9.{}.{}", "eyJpc3MiOiJrdWJlIn0", "c2lnbmF0dXJl");
        for (secret, text) in [
            ("hunter22", "password: hunter22\nnext"),
            ("hunter22", "{\"client\": {\"Password\": \"hunter22\", \"a\": 1}}"),
            ("hunter22", "run --token=hunter22 --b"),
            ("hunter22", "Authorization: Bearer hunter22\n"),
            ("hunter22", "proxy https://me:hunter22@192.0.2.1:3128/path"),
            ("hunter22", "client-key-data: hunter22"),
            ("c2lnbmF0", &format!("level=info msg=\"{token} was used\"")),
            ("MIIEow", "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----\nb\n"),
            ("MIIEow", "{\"k\": \"-----BEGIN PRIVATE KEY-----\\nMIIEow\\n-----END PRIVATE KEY-----\"}\nb\n"),
        ] {
            let clean = redacted(text);
            assert!(!clean.contains(secret) && clean.contains(LEFT_OUT), "{text}\n{clean}");
        }
        let key = redacted("a\n-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\nb\n");
        assert_eq!(key, "a\n[left out]\nb\n", "what is around it stays");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "shop/secret:http/TCP 10.96.0.10:80",
            "https://192.0.2.1:6443/api?limit=5",
            "-A KUBE-SVC-TCOU7JCQXEZGVUNU -m comment --comment \"default/token\" -j RETURN",
            "eyJ is how a token begins",
            "tokens 5",
            "ü: ß\n",
        ] {
            assert_eq!(redacted(text), text);
        }
    }
}
