package rfb

import (
	"encoding/binary"
	"image"
	"image/color"
	"io"
)

// Screen serves a still picture to one client, without a password, until the client goes: what simulated
// guests show.
func Screen(c io.ReadWriter, name string, picture image.Image) error {
	if _, err := io.WriteString(c, "RFB 003.008\n"); err != nil {
		return err
	}
	if _, err := version(c); err != nil {
		return err
	}
	if _, err := c.Write([]byte{1, secNone}); err != nil {
		return err
	}
	var one [1]byte
	if _, err := io.ReadFull(c, one[:]); err != nil { // the type chosen
		return err
	}
	if err := binary.Write(c, binary.BigEndian, uint32(0)); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, one[:]); err != nil { // ClientInit
		return err
	}
	size := picture.Bounds().Size()
	init := binary.BigEndian.AppendUint16(nil, uint16(size.X))
	init = binary.BigEndian.AppendUint16(init, uint16(size.Y))
	init = append(init, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0)
	init = binary.BigEndian.AppendUint32(init, uint32(len(name)))
	if _, err := c.Write(append(init, name...)); err != nil {
		return err
	}
	// What the messages of a client hold after their first byte.
	length := map[byte]int64{0: 19, 3: 9, 4: 7, 5: 5}
	for {
		if _, err := io.ReadFull(c, one[:]); err != nil {
			return err
		}
		kind := one[0]
		rest := length[kind]
		switch kind {
		case 2: // SetEncodings
			var head struct {
				_ uint8
				N uint16
			}
			if err := binary.Read(c, binary.BigEndian, &head); err != nil {
				return err
			}
			rest = 4 * int64(head.N)
		case 6: // ClientCutText
			var head struct {
				_ [3]byte
				N uint32
			}
			if err := binary.Read(c, binary.BigEndian, &head); err != nil {
				return err
			}
			rest = int64(head.N)
		}
		if _, err := io.CopyN(io.Discard, c, rest); err != nil {
			return err
		}
		if kind == 3 {
			if _, err := c.Write(whole(picture)); err != nil {
				return err
			}
		}
	}
}

// whole is an update of the whole screen, raw.
func whole(picture image.Image) []byte {
	b := picture.Bounds()
	out := []byte{0, 0, 0, 1, 0, 0, 0, 0}
	out = binary.BigEndian.AppendUint16(out, uint16(b.Dx()))
	out = binary.BigEndian.AppendUint16(out, uint16(b.Dy()))
	out = append(out, 0, 0, 0, 0)
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := color.RGBAModel.Convert(picture.At(x, y)).(color.RGBA)
			out = append(out, c.B, c.G, c.R, 0)
		}
	}
	return out
}
