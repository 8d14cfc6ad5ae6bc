use std::net::{IpAddr, Ipv4Addr};

use super::*;

const SEQUENCE: u32 = 7;

/// A netlink message, padded as the kernel pads it.
fn message(message_type: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = 16 + payload.len();
    let mut bytes = Vec::new();
    bytes.extend(u32::try_from(length).unwrap().to_ne_bytes());
    bytes.extend(message_type.to_ne_bytes());
    bytes.extend(0u16.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// `struct inet_diag_msg` of a socket from 10.0.0.1:4096 to 10.0.0.2:53, and `tail` after it.
fn socket(tail: &[u8]) -> Vec<u8> {
    let mut bytes = vec![AF_INET, 1, 0, 0, 0x10, 0, 0, 53];
    for address in [[10, 0, 0, 1], [10, 0, 0, 2]] {
        bytes.extend(address);
        bytes.extend([0; 12]);
    }
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(0x2222_2222u32.to_ne_bytes());
    bytes.extend(0x1111_1111u32.to_ne_bytes());
    bytes.extend([0; 20]);
    bytes.extend(tail);
    bytes
}

fn read_all(piece: &[u8]) -> (Result<Answer, String>, Vec<SocketId>) {
    let mut found = Vec::new();
    let answer = read(piece, SEQUENCE, &mut |id, _| found.push(id));
    (answer.map_err(|e| e.to_string()), found)
}

#[test]
fn sockets_of_a_piece_are_read_whatever_follows_their_fixed_part() {
    let piece = [
        message(SOCK_DIAG_BY_FAMILY, SEQUENCE, &socket(&[])),
        message(SOCK_DIAG_BY_FAMILY, SEQUENCE, &socket(&[5, 0, 8, 0, 0])),
    ]
    .concat();
    let (answer, found) = read_all(&piece);
    assert_eq!(answer, Ok(Answer::Goes(2)));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0].destination_address, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)));
    assert_eq!((found[0].source_port, found[0].destination_port), (0x1000, 53));
}

#[test]
fn cookie_has_its_low_word_first() {
    let (_, found) = read_all(&message(SOCK_DIAG_BY_FAMILY, SEQUENCE, &socket(&[])));
    assert_eq!(cookie(&found[0]), 0x1111_1111_2222_2222);
}

#[test]
fn listing_ends_with_what_follows_the_last_socket() {
    let piece =
        [message(SOCK_DIAG_BY_FAMILY, SEQUENCE, &socket(&[])), message(NLMSG_DONE, SEQUENCE, &0i32.to_ne_bytes())]
            .concat();
    let (answer, found) = read_all(&piece);
    assert_eq!((answer, found.len()), (Ok(Answer::Ends(0)), 1));
}

#[test]
fn answers_to_earlier_requests_are_left_out() {
    let piece = [
        message(NLMSG_DONE, SEQUENCE - 1, &0i32.to_ne_bytes()),
        message(SOCK_DIAG_BY_FAMILY, SEQUENCE - 1, &socket(&[])),
    ]
    .concat();
    let (answer, found) = read_all(&piece);
    assert_eq!((answer, found.len()), (Ok(Answer::Goes(0)), 0));
}

#[test]
fn refusals_are_told_apart() {
    let refused = |code: i32| {
        let payload = [code.to_ne_bytes().as_slice(), &[0; 16]].concat();
        let (answer, _) = read_all(&message(NLMSG_ERROR, SEQUENCE, &payload));
        assert_eq!(answer, Ok(Answer::Ends(code)));
        end(code, 17)
    };
    assert!(matches!(refused(0), Ok(End::Destroyed)));
    assert!(matches!(refused(-libc::ENOENT), Ok(End::NotFound)));
    assert!(matches!(refused(-libc::ESTALE), Ok(End::NotFound)));
    assert!(matches!(refused(-libc::EPERM), Err(DestroyError::NotAllowed)));
    assert!(matches!(refused(-libc::EOPNOTSUPP), Err(DestroyError::NotOffered(17))));
    assert!(matches!(refused(-libc::ENOMEM), Err(DestroyError::Exchange(_))));
    assert!(matches!(refusal(-libc::ENOENT, 17), DestroyError::NotListed(17)));
}

#[test]
fn broken_answers_are_errors() {
    let whole = message(SOCK_DIAG_BY_FAMILY, SEQUENCE, &socket(&[]));
    for length in 1..whole.len() {
        assert!(read_all(&whole[..length]).0.is_err(), "{length} bytes");
    }
    assert!(read_all(&message(SOCK_DIAG_BY_FAMILY, SEQUENCE, &[AF_INET; 40])).0.is_err());
    assert!(read_all(&message(NLMSG_ERROR, SEQUENCE, &[0; 2])).0.is_err());
    assert!(read_all(&message(NLMSG_DONE, SEQUENCE, &[0; 2])).0.is_err());
}
