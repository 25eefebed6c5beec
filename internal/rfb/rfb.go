// Package rfb speaks the opening of the remote framebuffer protocol (RFC 6143) that VNC uses, from both
// sides: it lets a client in by password, connects to a server that asks for none, and takes a picture of
// its screen. What follows the opening is passed on unread.
package rfb

import (
	"bytes"
	"crypto/des"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"math/bits"
)

// ErrPassword: the client's password is wrong. It has been told.
var ErrPassword = errors.New("rfb: wrong password")

// Security types.
const (
	secNone = 1
	secVNC  = 2
)

// PasswordLength is how much of a password the protocol's challenge uses, in bytes.
const PasswordLength = 8

// Accept opens the protocol as a server: the client proves that it knows the password. The next message is
// the client's ClientInit.
func Accept(c io.ReadWriter, password string) error {
	if _, err := io.WriteString(c, "RFB 003.008\n"); err != nil {
		return err
	}
	minor, err := version(c)
	if err != nil {
		return err
	}
	if minor < 7 { // the server decides
		if err := binary.Write(c, binary.BigEndian, uint32(secVNC)); err != nil {
			return err
		}
	} else {
		if _, err := c.Write([]byte{1, secVNC}); err != nil {
			return err
		}
		var chosen [1]byte
		if _, err := io.ReadFull(c, chosen[:]); err != nil {
			return err
		}
		if chosen[0] != secVNC {
			return fmt.Errorf("rfb: the client wants security type %d", chosen[0])
		}
	}
	var challenge, answer [16]byte
	rand.Read(challenge[:])
	if _, err := c.Write(challenge[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(answer[:], encrypt(challenge, password)) == 1 {
		return binary.Write(c, binary.BigEndian, uint32(0))
	}
	var refusal bytes.Buffer
	_ = binary.Write(&refusal, binary.BigEndian, uint32(1)) // to memory
	if minor >= 8 {
		reason := "wrong password"
		_ = binary.Write(&refusal, binary.BigEndian, uint32(len(reason)))
		refusal.WriteString(reason)
	}
	if _, err := c.Write(refusal.Bytes()); err != nil {
		return err
	}
	return ErrPassword
}

// Connect opens the protocol as a client of a server that asks for no password, or for the given one. The next
// message is ClientInit.
func Connect(c io.ReadWriter, password string) error {
	minor, err := version(c)
	if err != nil {
		return err
	}
	if minor < 8 {
		return fmt.Errorf("rfb: the server speaks version 3.%d only", minor)
	}
	if _, err := io.WriteString(c, "RFB 003.008\n"); err != nil {
		return err
	}
	var n [1]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return err
	}
	if n[0] == 0 {
		return fmt.Errorf("rfb: refused: %s", reason(c))
	}
	offered := make([]byte, n[0])
	if _, err := io.ReadFull(c, offered); err != nil {
		return err
	}
	switch {
	case bytes.IndexByte(offered, secNone) >= 0:
		_, err = c.Write([]byte{secNone})
	case bytes.IndexByte(offered, secVNC) >= 0:
		if _, err := c.Write([]byte{secVNC}); err != nil {
			return err
		}
		var challenge [16]byte
		if _, err := io.ReadFull(c, challenge[:]); err != nil {
			return err
		}
		_, err = c.Write(encrypt(challenge, password))
	default:
		return fmt.Errorf("rfb: the server offers security types %v", offered)
	}
	if err != nil {
		return err
	}
	var result uint32
	if err := binary.Read(c, binary.BigEndian, &result); err != nil {
		return err
	}
	if result != 0 {
		return fmt.Errorf("%w: %s", ErrPassword, reason(c))
	}
	return nil
}

// version reads the other side's version and answers the minor number of 3.x.
func version(c io.Reader) (minor int, err error) {
	var text [12]byte
	if _, err := io.ReadFull(c, text[:]); err != nil {
		return 0, err
	}
	var major int
	if _, err := fmt.Sscanf(string(text[:]), "RFB %03d.%03d\n", &major, &minor); err != nil || major != 3 {
		return 0, fmt.Errorf("rfb: the other side says %q", text)
	}
	return minor, nil
}

func reason(c io.Reader) string {
	var n uint32
	if binary.Read(c, binary.BigEndian, &n) != nil || n > 4096 {
		return ""
	}
	text := make([]byte, n)
	_, _ = io.ReadFull(c, text) // what came is told
	return string(text)
}

// encrypt answers a challenge: DES with the password's bytes, each with its bits in the other order.
func encrypt(challenge [16]byte, password string) []byte {
	var key [PasswordLength]byte
	copy(key[:], password)
	for i := range key {
		key[i] = bits.Reverse8(key[i])
	}
	block, err := des.NewCipher(key[:])
	if err != nil {
		panic("rfb: " + err.Error()) // the key has its length
	}
	out := make([]byte, 16)
	block.Encrypt(out[:8], challenge[:8])
	block.Encrypt(out[8:], challenge[8:])
	return out
}

// maxSide of a picture, in pixels.
const maxSide = 8192

// Screenshot takes one picture of the screen of a server that was connected to.
func Screenshot(c io.ReadWriter) (image.Image, error) {
	if _, err := c.Write([]byte{1}); err != nil { // ClientInit: others may stay
		return nil, err
	}
	var init struct {
		Width, Height uint16
		Format        [16]byte
		NameLength    uint32
	}
	if err := binary.Read(c, binary.BigEndian, &init); err != nil {
		return nil, err
	}
	if init.NameLength > 1<<16 || init.Width > maxSide || init.Height > maxSide || init.Width == 0 || init.Height == 0 {
		return nil, fmt.Errorf("rfb: a screen of %d by %d", init.Width, init.Height)
	}
	if _, err := io.CopyN(io.Discard, c, int64(init.NameLength)); err != nil {
		return nil, err
	}
	w, h := int(init.Width), int(init.Height)
	var ask bytes.Buffer
	// SetPixelFormat: 32 bits, true colour, blue first. SetEncodings: raw alone. All of the screen.
	ask.Write([]byte{0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0})
	ask.Write([]byte{2, 0, 0, 1, 0, 0, 0, 0})
	ask.Write([]byte{3, 0, 0, 0, 0, 0})
	_ = binary.Write(&ask, binary.BigEndian, [2]uint16{init.Width, init.Height}) // to memory
	if _, err := c.Write(ask.Bytes()); err != nil {
		return nil, err
	}
	picture := image.NewRGBA(image.Rect(0, 0, w, h))
	for missing := w * h; missing > 0; {
		var kind [1]byte
		if _, err := io.ReadFull(c, kind[:]); err != nil {
			return nil, err
		}
		switch kind[0] {
		case 0: // FramebufferUpdate
			n, err := update(c, picture)
			if err != nil {
				return nil, err
			}
			missing -= n
		case 2: // Bell
		case 3: // ServerCutText
			var head struct {
				_ [3]byte
				N uint32
			}
			if err := binary.Read(c, binary.BigEndian, &head); err != nil {
				return nil, err
			}
			if _, err := io.CopyN(io.Discard, c, int64(head.N)); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("rfb: message %d was not asked for", kind[0])
		}
	}
	return picture, nil
}

// update reads the rectangles of one update and answers how many pixels they held.
func update(c io.Reader, picture *image.RGBA) (pixels int, err error) {
	var head struct {
		_     uint8
		Rects uint16
	}
	if err := binary.Read(c, binary.BigEndian, &head); err != nil {
		return 0, err
	}
	for range head.Rects {
		var r struct {
			X, Y, W, H uint16
			Encoding   int32
		}
		if err := binary.Read(c, binary.BigEndian, &r); err != nil {
			return 0, err
		}
		area := image.Rect(int(r.X), int(r.Y), int(r.X)+int(r.W), int(r.Y)+int(r.H))
		if r.Encoding != 0 || !area.In(picture.Bounds()) {
			return 0, fmt.Errorf("rfb: a rectangle %v of encoding %d", area, r.Encoding)
		}
		line := make([]byte, 4*int(r.W))
		for y := area.Min.Y; y < area.Max.Y; y++ {
			if _, err := io.ReadFull(c, line); err != nil {
				return 0, err
			}
			for x := range int(r.W) {
				picture.SetRGBA(area.Min.X+x, y, color.RGBA{R: line[4*x+2], G: line[4*x+1], B: line[4*x], A: 255})
			}
		}
		pixels += area.Dx() * area.Dy()
	}
	return pixels, nil
}
