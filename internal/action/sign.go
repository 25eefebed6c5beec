package action

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"io"
	"sort"
)

// Names of the common parameters.
const (
	paramAction    = "Action"
	paramPublicKey = "PublicKey"
	paramSignature = "Signature"
	paramRegion    = "Region"
	paramCompany   = "CompanyID"
	paramMember    = "MemberID"
	paramSSOToken  = "ssotoken"
)

// Sign returns the signature of a flat request (conventions 3): every parameter but Signature,
// sorted by name, name and value joined, the private key behind, SHA-1, lower-case hex.
func Sign(parameters map[string]string, privateKey string) string {
	names := make([]string, 0, len(parameters))
	for n := range parameters {
		if n != paramSignature {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	h := sha1.New()
	for _, n := range names {
		io.WriteString(h, n)
		io.WriteString(h, parameters[n])
	}
	io.WriteString(h, privateKey)
	return hex.EncodeToString(h.Sum(nil))
}

// signature computes the signature over the form that arrived. With source, JSON numbers count as
// they were written, else in their shortest decimal form; differ tells whether the two are not
// the same.
func (p params) signature(privateKey string, source bool) (sum string, differ bool) {
	s := signer{hash: sha1.New(), source: source}
	s.fields(p, true)
	s.write(privateKey)
	var raw [sha1.Size]byte
	var out [2 * sha1.Size]byte
	hex.Encode(out[:], s.hash.Sum(raw[:0]))
	return string(out[:]), s.differ
}

// verify compares in constant time.
func (p params) verify(signature, privateKey string) bool {
	want, differ := p.signature(privateKey, false)
	ok := subtle.ConstantTimeCompare([]byte(want), []byte(signature)) == 1
	if !ok && differ {
		want, _ = p.signature(privateKey, true)
		ok = subtle.ConstantTimeCompare([]byte(want), []byte(signature)) == 1
	}
	return ok
}

type signer struct {
	hash   hash.Hash
	source bool
	differ bool
	buffer [256]byte
}

// write hashes s without turning it into a slice of its own.
func (s *signer) write(t string) {
	for len(t) > 0 {
		n := copy(s.buffer[:], t)
		s.hash.Write(s.buffer[:n])
		t = t[n:]
	}
}

func (s *signer) fields(p []param, top bool) {
	for i := range p {
		if top && p[i].name == paramSignature {
			continue
		}
		s.write(p[i].name)
		s.node(&p[i].value)
	}
}

func (s *signer) node(n *node) {
	switch n.kind {
	case list:
		for i := range n.items {
			s.node(&n.items[i])
		}
	case tree:
		s.fields(n.fields, false)
	case number:
		plain, ok := decimal(n.text)
		if ok && plain != n.text {
			s.differ = true
			if !s.source {
				s.write(plain)
				return
			}
		}
		s.write(n.text)
	default:
		s.write(n.text)
	}
}
