package database

import (
	"crypto/rand"
	"strings"
	"sync/atomic"
	"time"
)

const (
	idAlphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	idLength   = 14
)

// NewID returns prefix + "-" + 14 random lower-case letters and digits.
func NewID(prefix string) string {
	id := make([]byte, 0, len(prefix)+1+idLength)
	id = append(id, prefix...)
	id = append(id, '-')
	var buf [2 * idLength]byte
	for {
		_, _ = rand.Read(buf[:]) // never fails
		for _, b := range buf {
			if int(b) >= 256/len(idAlphabet)*len(idAlphabet) {
				continue // would favour the first letters
			}
			id = append(id, idAlphabet[int(b)%len(idAlphabet)])
			if len(id) == cap(id) {
				return string(id)
			}
		}
	}
}

var lastSerial atomic.Int64

// Serial returns a number that grows within the process and fits in 53 bits
// (unix microseconds, bumped when equal), for ids that the wire has as int.
func Serial() int64 {
	for {
		last := lastSerial.Load()
		next := max(time.Now().UnixMicro(), last+1)
		if lastSerial.CompareAndSwap(last, next) {
			return next
		}
	}
}

var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// Like escapes s for a LIKE pattern with ESCAPE '\' and wraps it in %.
// Both engines tell upper from lower case; compare LOWER(column) with Like of the lower-cased
// text where a search should not.
func Like(s string) string { return "%" + likeEscaper.Replace(s) + "%" }
