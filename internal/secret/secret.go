// Package secret encrypts what the database must not hold in the clear, with a
// key that lives in a file beside it and never in it.
package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// prefix names the scheme of sealed texts: AES-256-GCM with a random nonce before the text.
const prefix = "v1:"

// Key encrypts and decrypts. The zero value does not work.
type Key struct {
	aead        cipher.AEAD
	fingerprint string
}

// Load reads the key file, and makes it (mode 0600) when it does not exist. A file that others may
// read is refused.
func Load(path string) (*Key, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("making the key file: %w", err)
		}
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key file: %w", err)
	}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s has mode %04o: others may read it, make it 0600", path, info.Mode().Perm())
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("key file %s does not hold 64 hexadecimal digits", path)
	}
	return New(raw)
}

// New makes a key of 32 bytes.
func New(raw []byte) (*Key, error) {
	if len(raw) != 32 {
		return nil, fmt.Errorf("secret: a key has 32 bytes, not %d", len(raw))
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte("lingyun key fingerprint "), raw...))
	return &Key{aead: aead, fingerprint: hex.EncodeToString(sum[:8])}, nil
}

// create writes a new key under another name first, so that a crash never leaves half a key.
func create(path string) error {
	raw := make([]byte, 32)
	rand.Read(raw)
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(hex.EncodeToString(raw) + "\n"); err != nil {
		f.Close()
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	// Link, unlike Rename, does not replace a key that another process just made.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Fingerprint tells keys apart without giving them away. It is kept in the database, so that a
// controller with the wrong key file notices before it fails to decrypt.
func (k *Key) Fingerprint() string { return k.fingerprint }

// Seal encrypts plain. context binds the result to its place (table, column and row): Open with another context fails.
func (k *Key) Seal(plain []byte, context string) string {
	nonce := make([]byte, k.aead.NonceSize())
	rand.Read(nonce)
	return prefix + base64.RawStdEncoding.EncodeToString(k.aead.Seal(nonce, nonce, plain, []byte(context)))
}

// Open decrypts what Seal made for the same context.
func (k *Key) Open(sealed, context string) ([]byte, error) {
	text, ok := strings.CutPrefix(sealed, prefix)
	if !ok {
		return nil, errors.New("secret: not a sealed text")
	}
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(raw) < k.aead.NonceSize() {
		return nil, errors.New("secret: malformed sealed text")
	}
	n := k.aead.NonceSize()
	plain, err := k.aead.Open(nil, raw[:n], raw[n:], []byte(context))
	if err != nil {
		return nil, errors.New("secret: sealed with another key or for another place")
	}
	return plain, nil
}
