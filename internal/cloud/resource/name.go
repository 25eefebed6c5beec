package resource

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// Limits of names and remarks, in characters.
const (
	MaxName   = 63
	MaxRemark = 100
)

// Name trims a name and refuses what is not 1 to 63 printable characters (113).
func Name(name string) (string, error) {
	name = strings.TrimSpace(name)
	if n := utf8.RuneCountInString(name); n < 1 || n > MaxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unprintable) {
		return "", retcode.InvalidParameter.Errorf("Name has 1 to %d printable characters", MaxName)
	}
	return name, nil
}

// Remark refuses remarks of more than 100 characters (113).
func Remark(remark string) (string, error) {
	if !utf8.ValidString(remark) || utf8.RuneCountInString(remark) > MaxRemark {
		return "", retcode.InvalidParameter.Errorf("Remark has at most %d characters", MaxRemark)
	}
	return remark, nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
