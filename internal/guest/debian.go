package guest

import (
	"context"
	"errors"
)

// Debian builds a Debian 12 with cloud-init from the distribution's packages.
func Debian(ctx context.Context, o Options) (Image, error) {
	return Image{}, errors.New("guest: the debian image is not there yet")
}
