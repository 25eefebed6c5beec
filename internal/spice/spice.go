// Package spice opens channels of the SPICE protocol: a client, who has to know a password, is let through to a guest's
// screen, which asks for none. What comes after a channel's opening passes as it is.
package spice

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// KeyBits is the size of the keys that passwords are encrypted with: the protocol has no other.
	KeyBits = 1024
	// MaxPassword is in bytes.
	MaxPassword = 60
	// Main is the kind of a session's first channel, which all others belong to.
	Main = 1

	magic       = "REDQ"
	major       = 2
	headerBytes = 16
	maxMessage  = 4096
	keyBytes    = 162 // a public key, DER
	ticketBytes = KeyBits / 8
	linkBytes   = 18 // of a client's message, without its capabilities
	replyBytes  = 4 + keyBytes + 12

	selectsAuth = 1 << 0 // the common capability to say how one identifies oneself
	authSpice   = 1      // by a password

	permissionDenied = 7
)

var (
	// ErrPassword: the client did not know it.
	ErrPassword = errors.New("spice: wrong password")
	errProtocol = errors.New("spice: not the protocol")
)

// message is an opening one: its header and its body.
type message struct{ header, body []byte }

func read(r io.Reader, least int) (*message, error) {
	m := &message{header: make([]byte, headerBytes)}
	if _, err := io.ReadFull(r, m.header); err != nil {
		return nil, err
	}
	n := int(binary.LittleEndian.Uint32(m.header[12:]))
	if string(m.header[:4]) != magic || binary.LittleEndian.Uint32(m.header[4:]) != major || n < least || n > maxMessage {
		return nil, errProtocol
	}
	m.body = make([]byte, n)
	_, err := io.ReadFull(r, m.body)
	return m, err
}

func (m *message) write(w io.Writer) error {
	_, err := w.Write(append(bytes.Clone(m.header), m.body...))
	return err
}

// common is the first word of the capabilities that all channels have; the counts of both sorts and their place are at.
func (m *message) common(at int) uint32 {
	n, offset := binary.LittleEndian.Uint32(m.body[at:]), binary.LittleEndian.Uint32(m.body[at+8:])
	if n == 0 || offset > maxMessage || int(offset)+4 > len(m.body) {
		return 0
	}
	return binary.LittleEndian.Uint32(m.body[offset:])
}

// Open lets a client through to the guest over one channel and answers its kind. Set deadlines before. The key is the
// session's: the client encrypts its password for it.
func Open(client, guest io.ReadWriter, password string, key *rsa.PrivateKey) (kind byte, err error) {
	link, err := read(client, linkBytes)
	if err != nil {
		return 0, err
	}
	kind = link.body[4]
	if err := link.write(guest); err != nil {
		return kind, err
	}
	reply, err := read(guest, 4)
	if err != nil {
		return kind, err
	}
	if code := binary.LittleEndian.Uint32(reply.body); code != 0 || len(reply.body) < replyBytes {
		return kind, errors.Join(fmt.Errorf("spice: the guest's screen refuses the channel: %d", code), reply.write(client))
	}
	theirs, err := x509.ParsePKIXPublicKey(reply.body[4 : 4+keyBytes])
	if err != nil {
		return kind, err
	}
	guestKey, ok := theirs.(*rsa.PublicKey)
	ours, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil || !ok || len(ours) != keyBytes {
		return kind, errors.Join(errProtocol, err)
	}
	copy(reply.body[4:], ours)
	if err := reply.write(client); err != nil {
		return kind, err
	}
	var selection []byte
	if link.common(6)&reply.common(4+keyBytes)&selectsAuth != 0 {
		selection = make([]byte, 4)
		if _, err := io.ReadFull(client, selection); err != nil {
			return kind, err
		}
		if binary.LittleEndian.Uint32(selection) != authSpice {
			return kind, errors.Join(ErrPassword, deny(client))
		}
	}
	ticket := make([]byte, ticketBytes)
	if _, err := io.ReadFull(client, ticket); err != nil {
		return kind, err
	}
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, key, ticket, nil)
	if err != nil || subtle.ConstantTimeCompare(bytes.TrimRight(plain, "\x00"), []byte(password)) != 1 {
		return kind, errors.Join(ErrPassword, deny(client))
	}
	if ticket, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, guestKey, []byte{0}, nil); err != nil {
		return kind, err
	}
	if _, err := guest.Write(append(selection, ticket...)); err != nil {
		return kind, err
	}
	result := make([]byte, 4)
	if _, err := io.ReadFull(guest, result); err != nil {
		return kind, err
	}
	if _, err := client.Write(result); err != nil {
		return kind, err
	}
	if code := binary.LittleEndian.Uint32(result); code != 0 {
		return kind, fmt.Errorf("spice: the guest's screen lets nobody in: %d", code)
	}
	return kind, nil
}

func deny(client io.Writer) error {
	_, err := client.Write(binary.LittleEndian.AppendUint32(nil, permissionDenied))
	return err
}

// Connect opens a channel as a client does: for tests, and to see whether somebody answers.
func Connect(server io.ReadWriter, kind byte, password string) error {
	body := make([]byte, linkBytes, linkBytes+4)
	body[4] = kind
	binary.LittleEndian.PutUint32(body[6:], 1)
	binary.LittleEndian.PutUint32(body[14:], linkBytes)
	if err := newMessage(binary.LittleEndian.AppendUint32(body, selectsAuth|1<<authSpice)).write(server); err != nil {
		return err
	}
	reply, err := read(server, replyBytes)
	if err != nil {
		return err
	}
	key, err := x509.ParsePKIXPublicKey(reply.body[4 : 4+keyBytes])
	if err != nil {
		return err
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return errProtocol
	}
	ticket, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public, append([]byte(password), 0), nil)
	if err != nil {
		return err
	}
	if reply.common(4+keyBytes)&selectsAuth != 0 {
		ticket = append(binary.LittleEndian.AppendUint32(nil, authSpice), ticket...)
	}
	if _, err := server.Write(ticket); err != nil {
		return err
	}
	result := make([]byte, 4)
	if _, err := io.ReadFull(server, result); err != nil {
		return err
	}
	switch binary.LittleEndian.Uint32(result) {
	case 0:
		return nil
	case permissionDenied:
		return ErrPassword
	}
	return errProtocol
}

// Serve answers a channel's opening as a guest's screen that asks for no password, for simulated guests.
func Serve(client io.ReadWriter) error {
	link, err := read(client, linkBytes)
	if err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, KeyBits)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	body := append(make([]byte, 4), public...)
	for _, word := range []uint32{1, 0, replyBytes, selectsAuth | 1<<authSpice} {
		body = binary.LittleEndian.AppendUint32(body, word)
	}
	if err := newMessage(body).write(client); err != nil {
		return err
	}
	rest := ticketBytes
	if link.common(6)&selectsAuth != 0 {
		rest += 4
	}
	ticket := make([]byte, rest)
	if _, err := io.ReadFull(client, ticket); err != nil {
		return err
	}
	if _, err := rsa.DecryptOAEP(sha1.New(), nil, key, ticket[rest-ticketBytes:], nil); err != nil {
		return err
	}
	_, err = client.Write(make([]byte, 4))
	return err
}

func newMessage(body []byte) *message {
	header := append([]byte(magic), make([]byte, 12)...)
	binary.LittleEndian.PutUint32(header[4:], major)
	binary.LittleEndian.PutUint32(header[8:], 2) // minor
	binary.LittleEndian.PutUint32(header[12:], uint32(len(body)))
	return &message{header, body}
}
