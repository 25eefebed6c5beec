// Package secret encrypts what the database must not hold in the clear, with a
// key that lives in a file beside it and never in it.
package secret

// Key encrypts and decrypts. The zero value does not work.
type Key struct{}

// Load reads the key file, and makes it (mode 0600) when it does not exist.
func Load(path string) (*Key, error) { panic("not yet") }

// Seal encrypts plain. context binds the result to its place (table, column and row): Open with another context fails.
func (k *Key) Seal(plain []byte, context string) string { panic("not yet") }

// Open decrypts what Seal made for the same context.
func (k *Key) Open(sealed, context string) ([]byte, error) { panic("not yet") }
