package guest

import (
	"encoding/binary"
	"os"
)

// partition of a master boot record, in sectors.
type partition struct {
	active      bool
	kind        byte
	start, size uint32
}

// masterBootRecord is the boot code with a table of the partitions, at most four.
func masterBootRecord(code []byte, table ...partition) []byte {
	mbr := make([]byte, sector)
	copy(mbr[:440], code)
	for slot, part := range table {
		p := mbr[446+16*slot:]
		if part.active {
			p[0] = 0x80
		}
		p[4] = part.kind
		// Cylinder, head and sector beyond their range: readers use the sector numbers.
		copy(p[1:4], []byte{0xfe, 0xff, 0xff})
		copy(p[5:8], []byte{0xfe, 0xff, 0xff})
		binary.LittleEndian.PutUint32(p[8:], part.start)
		binary.LittleEndian.PutUint32(p[12:], part.size)
	}
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}

// truncated makes an empty sparse file of a size.
func truncated(file string, size int64) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
