//! The little of DNS (RFC 1035) that a query "who answers?" needs: one TXT question, TXT strings as the answer.

/// The name that probes ask for.
pub const QUESTION: &str = "whoami.sluice.test";

const HEADER: usize = 12;
const TYPE_TXT: u16 = 16;
const CLASS_IN: u16 = 1;

/// A TXT query for `name`.
pub fn query(id: u16, name: &str) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER + name.len() + 6);
    // Recursion desired; one question.
    for word in [id, 0x0100, 1, 0, 0, 0] {
        packet.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        push_string(&mut packet, label);
    }
    packet.push(0);
    packet.extend(TYPE_TXT.to_be_bytes());
    packet.extend(CLASS_IN.to_be_bytes());
    packet
}

/// The answer to a query: its question, and `texts` as one TXT record. `None` when it is not a query.
pub fn answer(query: &[u8], texts: &[&str]) -> Option<Vec<u8>> {
    let flags = word(query, 2)?;
    if flags & 0x8000 != 0 || word(query, 4)? != 1 {
        return None;
    }
    let question = query.get(HEADER..question_end(query)?)?;
    let mut packet = Vec::with_capacity(512);
    // Response, authoritative, recursion flag as asked, no error; one question, one answer.
    for value in [word(query, 0)?, 0x8400 | (flags & 0x0100), 1, 1, 0, 0] {
        packet.extend(value.to_be_bytes());
    }
    packet.extend(question);
    let mut data = Vec::new();
    for text in texts {
        push_string(&mut data, text);
    }
    // The name is a pointer to the question's; time to live 0.
    for value in [0xc000 | u16::try_from(HEADER).ok()?, TYPE_TXT, CLASS_IN, 0, 0, u16::try_from(data.len()).ok()?] {
        packet.extend(value.to_be_bytes());
    }
    packet.extend(data);
    Some(packet)
}

/// The TXT strings of an answer to the query with this id. `None` when it is not that.
pub fn texts(answer: &[u8], id: u16) -> Option<Vec<String>> {
    if word(answer, 0)? != id || word(answer, 2)? & 0x8000 == 0 || word(answer, 6)? != 1 {
        return None;
    }
    let record = question_end(answer)?;
    let len = usize::from(word(answer, record + 10)?);
    let mut rest = answer.get(record + 12..record + 12 + len)?;
    let mut texts = Vec::new();
    while let Some((&len, tail)) = rest.split_first() {
        let (text, after) = tail.split_at_checked(usize::from(len))?;
        texts.push(String::from_utf8(text.to_vec()).ok()?);
        rest = after;
    }
    Some(texts)
}

fn word(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// Offset of the byte behind the first question.
fn question_end(packet: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let len = usize::from(*packet.get(at)?);
        at += 1 + len;
        if len == 0 {
            return Some(at + 4);
        }
    }
}

/// A length byte and the text, cut at 63 bytes as a label would be.
fn push_string(out: &mut Vec<u8>, text: &str) {
    let bytes: Vec<u8> = text.bytes().take(63).collect();
    out.extend(u8::try_from(bytes.len()));
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_its_texts_back() {
        let reply = answer(&query(7, QUESTION), &["pod=br1", "client=[fd90::1]:53"]).unwrap();
        assert_eq!(texts(&reply, 7).unwrap(), ["pod=br1", "client=[fd90::1]:53"]);
        assert_eq!(texts(&reply, 8), None, "an answer to another query");
    }

    #[test]
    fn an_answer_is_no_query() {
        let reply = answer(&query(7, QUESTION), &["x"]).unwrap();
        assert_eq!(answer(&reply, &["y"]), None);
    }

    #[test]
    fn cut_off_packets_are_refused() {
        let reply = answer(&query(7, QUESTION), &["pod=br1"]).unwrap();
        for len in 0..reply.len() {
            assert_eq!(texts(&reply[..len], 7), None);
        }
    }
}
