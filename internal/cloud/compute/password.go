package compute

import (
	"strings"
	"unicode/utf8"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

const passwordSpecials = "()`~!@#$%^&*-+=_|{}[]:;'<>,.?/"

// CheckPassword applies the rules of guests' passwords: 6 to 30 characters (1029) of letters, digits and
// specials, of at least two classes, without 3 following characters of windowsUser (1030).
func CheckPassword(password, windowsUser string) error {
	if n := utf8.RuneCountInString(password); n < 6 || n > 30 {
		return retcode.VMPasswordLengthInvalid.Errorf("Password must have 6 to 30 characters")
	}
	var upper, lower, digit, special int
	for _, r := range password {
		switch {
		case r >= 'A' && r <= 'Z':
			upper = 1
		case r >= 'a' && r <= 'z':
			lower = 1
		case r >= '0' && r <= '9':
			digit = 1
		case strings.ContainsRune(passwordSpecials, r):
			special = 1
		default:
			return retcode.VMPasswordComplexityInvalid.Errorf("Password may have letters, digits and %s", passwordSpecials)
		}
	}
	if upper+lower+digit+special < 2 {
		return retcode.VMPasswordComplexityInvalid.Errorf("Password needs two of upper case, lower case, digits and specials")
	}
	for i := 0; i+3 <= len(windowsUser); i++ {
		if strings.Contains(strings.ToLower(password), strings.ToLower(windowsUser[i:i+3])) {
			return retcode.VMPasswordComplexityInvalid.Errorf("Password has a part of the user name")
		}
	}
	return nil
}
