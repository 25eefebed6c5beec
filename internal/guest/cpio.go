package guest

import (
	"fmt"
	"io"
	"io/fs"
)

// cpioWriter writes the "newc" format, which the kernel unpacks as its first
// file system. Everything belongs to root and bears the time zero.
type cpioWriter struct {
	w     io.Writer
	inode int
	err   error
}

const (
	cpioDir     = 0o040000
	cpioFile    = 0o100000
	cpioSymlink = 0o120000
)

func (c *cpioWriter) dir(name string, perm fs.FileMode) { c.entry(name, cpioDir|uint32(perm), nil) }
func (c *cpioWriter) symlink(name, target string)       { c.entry(name, cpioSymlink|0o777, []byte(target)) }
func (c *cpioWriter) file(name string, perm fs.FileMode, data []byte) {
	c.entry(name, cpioFile|uint32(perm), data)
}

func (c *cpioWriter) entry(name string, mode uint32, data []byte) {
	if c.err != nil {
		return
	}
	c.inode++
	links := 1
	if mode&cpioDir != 0 && mode&cpioFile != cpioFile {
		links = 2
	}
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	c.padded([]byte(header + name + "\x00"))
	c.padded(data)
}

func (c *cpioWriter) padded(data []byte) {
	if c.err != nil {
		return
	}
	if _, c.err = c.w.Write(data); c.err == nil && len(data)%4 != 0 {
		_, c.err = c.w.Write(make([]byte, 4-len(data)%4))
	}
}

func (c *cpioWriter) close() error {
	c.inode = -1
	c.entry("TRAILER!!!", 0, nil)
	return c.err
}
