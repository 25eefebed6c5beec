package database

import (
	"database/sql/driver"
	"strconv"
	"strings"
)

// bun writes arguments into its statements. For writes that is undone here, so that they too keep their text and stay
// prepared: parsing was half of what an INSERT cost. Reads are not touched, because their literals say more than values: columns to
// sort by, and which partial index serves.

// Writes beyond these are rare and large, and executed as they are.
const (
	liftedLength   = 8 << 10 // bytes of a statement
	liftedLiterals = 250
)

// liftLiterals puts placeholders in the place of the texts and numbers of a write, which become its arguments. ok is
// false for every statement of which that is not certain to mean the same.
func liftLiterals(query string) (lifted string, values []driver.NamedValue, ok bool) {
	if len(query) > liftedLength || !strings.HasPrefix(query, "INSERT ") && !strings.HasPrefix(query, "UPDATE ") && !strings.HasPrefix(query, "WITH ") {
		return "", nil, false
	}
	var out strings.Builder
	out.Grow(len(query))
	lift := func(v driver.Value) {
		values = append(values, driver.NamedValue{Ordinal: len(values) + 1, Value: v})
		out.WriteByte('?')
	}
	for i := 0; i < len(query); {
		end := i + 1
		switch c := query[i]; {
		case c == '\'':
			text, length, closed := quotedText(query[i:])
			if !closed {
				return "", nil, false
			}
			lift(text)
			i += length
			continue
		case c == '"':
			n := strings.IndexByte(query[i+1:], '"')
			if n < 0 {
				return "", nil, false
			}
			end = i + n + 2
		case digit(c):
			for end < len(query) && digit(query[end]) {
				end++
			}
			n, err := strconv.ParseInt(query[i:end], 10, 64)
			if err != nil || end < len(query) && (query[end] == '.' || named(query[end])) { // a fraction, 0x1, 1e9
				return "", nil, false
			}
			lift(n)
			i = end
			continue
		case named(c):
			for end < len(query) && (named(query[end]) || digit(query[end])) {
				end++
			}
			if end < len(query) && query[end] == '\'' { // a blob
				return "", nil, false
			}
		case strings.IndexByte("?:@$;`[", c) >= 0, c == '.' && end < len(query) && digit(query[end]), c == '/' && strings.HasPrefix(query[i:], "/*"), c == '-' && strings.HasPrefix(query[i:], "--"):
			return "", nil, false
		}
		out.WriteString(query[i:end])
		i = end
	}
	return out.String(), values, len(values) > 0 && len(values) <= liftedLiterals
}

// quotedText reads the text that q begins with, and how long it is with its quotes.
func quotedText(q string) (text string, length int, closed bool) {
	doubled := false
	for i := 1; i < len(q); i++ {
		if q[i] != '\'' {
			continue
		}
		if i+1 < len(q) && q[i+1] == '\'' {
			doubled = true
			i++
			continue
		}
		text = q[1:i]
		if doubled {
			text = strings.ReplaceAll(text, "''", "'")
		}
		return text, i + 1, true
	}
	return "", 0, false
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// named tells whether c may be in a name; bytes of letters beyond ASCII may.
func named(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80 }
