package catalog

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // what pictures may be
	_ "image/png"
	"net/mail"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // hosts may have no time zones
	"unicode"
	"unicode/utf8"

	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

// parse returns a value as it is kept: InvalidParameter (113) for what the option does not allow.
func (o *option) parse(value string) (string, error) {
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return "", o.refuse()
	}
	switch o.Type {
	case truth:
		if value != "true" && value != "false" {
			return "", o.refuse()
		}
	case number:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < o.Min || n > o.Max {
			return "", o.refuse()
		}
		value = strconv.FormatInt(n, 10)
	case choice:
		if !slices.Contains(o.Choices, value) {
			return "", o.refuse()
		}
	case text, secrecy:
		if int64(len(value)) > o.Max {
			return "", o.refuse()
		}
	case picture:
		if value != "" && o.checkPicture(value) != nil {
			return "", o.refuse()
		}
	case networks, addresses:
		parts := split(value)
		if int64(len(parts)) > o.Max || o.Type == networks && len(parts) == 0 {
			return "", o.refuse()
		}
		for i, p := range parts {
			var err error
			if o.Type == networks {
				var n netip.Prefix
				if n, err = netip.ParsePrefix(p); err == nil && n != n.Masked() {
					err = errors.New("host bits")
				}
			} else {
				var a netip.Addr
				if a, err = netip.ParseAddr(p); err == nil && !a.Is4() {
					err = errors.New("not IPv4")
				}
			}
			if err != nil || slices.Contains(parts[:i], p) {
				return "", o.refuse()
			}
		}
		value = strings.Join(parts, ",")
	}
	if o.Check != nil && value != "" && o.Check(value) != nil {
		return "", o.refuse()
	}
	return value, nil
}

func (o *option) refuse() error {
	return retcode.InvalidParameter.Errorf("%s takes %s", o.Key, o.allowed())
}

// split takes a comma separated list apart.
func split(list string) (parts []string) {
	for p := range strings.SplitSeq(list, ",") {
		if p = strings.TrimSpace(p); p != "" {
			parts = append(parts, p)
		}
	}
	return parts
}

// allowed is the range of values for people, and ValueRange on the wire.
func (o *option) allowed() string {
	switch o.Type {
	case truth:
		return "true, false"
	case number:
		return fmt.Sprintf("%d-%d", o.Min, o.Max)
	case choice:
		return strings.Join(o.Choices, ", ")
	case picture:
		return fmt.Sprintf("%s, <= %d KB, <= %dx%d", strings.Join(o.Formats, "/"), o.Max>>10, o.Width, o.Height)
	case networks:
		return fmt.Sprintf("1-%d CIDR", o.Max)
	case addresses:
		return fmt.Sprintf("0-%d IPv4", o.Max)
	}
	switch {
	case o.Fixed:
		return ""
	case o.Key == "TimeZone":
		return "Area/City"
	case o.Key == "ConfigBackup":
		return "hh:mm"
	}
	return fmt.Sprintf("0-%d bytes", o.Max)
}

func (o *option) checkPicture(value string) error {
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return err
	}
	if int64(len(raw)) > o.Max {
		return errors.New("too large")
	}
	if slices.Contains(o.Formats, "ico") {
		return checkIcon(raw, o.Width)
	}
	c, format, err := image.DecodeConfig(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	if !slices.Contains(o.Formats, format) || c.Width > o.Width || c.Height > o.Height {
		return errors.New("format or size")
	}
	return nil
}

// checkIcon reads the directory of a Windows icon file: every image in it must fit and lie in the file.
func checkIcon(raw []byte, side int) error {
	if len(raw) < 6 || binary.LittleEndian.Uint32(raw) != 0x10000 {
		return errors.New("no icon")
	}
	count := int(binary.LittleEndian.Uint16(raw[4:]))
	if count == 0 || len(raw) < 6+16*count {
		return errors.New("no image in the icon")
	}
	for i := range count {
		entry := raw[6+16*i:]
		size, offset := int64(binary.LittleEndian.Uint32(entry[8:])), int64(binary.LittleEndian.Uint32(entry[12:]))
		if w, h := int(entry[0]), int(entry[1]); w == 0 || h == 0 || w > side || h > side || size == 0 || offset < int64(6+16*count) || offset+size > int64(len(raw)) {
			return errors.New("the icon's size")
		}
	}
	return nil
}

// The largest networks that VPCs may be in.
var (
	classA = netip.MustParsePrefix("10.0.0.0/8")
	classC = netip.MustParsePrefix("192.168.0.0/16")
)

func checkVPCNetwork(value string) error {
	var seen []netip.Prefix
	for _, part := range split(value) {
		n, err := netip.ParsePrefix(part)
		if err != nil {
			return err
		}
		a := n.Addr()
		within := classA.Contains(a) && n.Bits() >= 8 || classC.Contains(a) && n.Bits() >= 16 ||
			a.Is4() && a.As4()[0] == 172 && a.As4()[1] >= 16 && a.As4()[1] <= 29 && n.Bits() >= 16
		if !within || n.Bits() > 29 {
			return errors.New("outside the private networks")
		}
		for _, s := range seen {
			if s.Overlaps(n) {
				return errors.New("overlapping networks")
			}
		}
		seen = append(seen, n)
	}
	return nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$`)

func checkHost(value string) error {
	if !hostName.MatchString(value) {
		return errors.New("no host name")
	}
	return nil
}

func checkMail(value string) error {
	if a, err := mail.ParseAddress(value); err != nil || a.Address != value {
		return errors.New("no mail address")
	}
	return nil
}

// checkLine refuses control characters: the value goes into a header or a title.
func checkLine(value string) error {
	if strings.ContainsFunc(value, unicode.IsControl) {
		return errors.New("control characters")
	}
	return nil
}

func checkTimeOfDay(value string) error {
	_, err := time.Parse("15:04", value)
	return err
}

func checkTimeZone(value string) error {
	if value == "Local" {
		return errors.New("not a zone")
	}
	_, err := time.LoadLocation(value)
	return err
}
