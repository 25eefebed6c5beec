// Package compute owns virtual machines with their disks, and the images they
// start from. A machine's row says what it should be; hosts are told the whole
// of it and answer what is.
package compute

import (
	"context"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/clock"
	"github.com/lingyun-cloud/lingyun/internal/cloud/catalog"
	"github.com/lingyun-cloud/lingyun/internal/cloud/fleet"
	"github.com/lingyun-cloud/lingyun/internal/cloud/identity"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/secret"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// Deps of the service.
type Deps struct {
	DB       *database.DB
	Clock    *clock.Clock
	Engine   *workflow.Engine
	Secret   *secret.Key
	Identity *identity.Service
	Catalog  *catalog.Service
	Fleet    *fleet.Service
	// QemuImg is the program that inspects images; empty: qemu-img of the search path.
	QemuImg string
}

// Service is compute.
type Service struct{ Deps }

// New prepares the service and registers its workflows and hooks; call it before the engine's and the fleet's Start.
func New(d Deps) *Service { panic("not yet") }

// Run sweeps failed machines and old tombstones until ctx ends. Only the leading controller calls it.
func (s *Service) Run(ctx context.Context) { panic("not yet") }

// ImageMeta says what cannot be read from an image file.
type ImageMeta struct {
	Region         string // empty: catalog.DefaultRegion
	Description    string
	Arch           string // x86_64 (default), aarch64
	OSType         string // Linux (default), Windows
	OSName         string // shown to people, e.g. "Debian 12.11 64-bit"
	OSDistribution string // e.g. Debian; tells the login user when LoginUser is empty
	LoginUser      string // account that gets the password and keys
	UEFI           bool   // boots by UEFI only
	CloudInit      bool   // reads the seed
	QGA            bool   // runs qemu-guest-agent
	Hotplug        bool   // CPUs and memory can be added while it runs
}

// ImportBase makes the base image REGION-image-NAME of the qcow2 file at path. The file is inspected by
// qemu-img in a confined child; one with a backing file, a data file or encryption is refused (1003).
// A name that exists with the same content is left alone; with other content it gets the new one,
// for machines made from now on.
func (s *Service) ImportBase(ctx context.Context, name, path string, m ImageMeta) (id string, err error) {
	panic("not yet")
}

// EnsureSimulatedBase registers the base image of simulated clouds, whose hosts boot nothing.
func (s *Service) EnsureSimulatedBase(ctx context.Context) (id string, err error) { panic("not yet") }

// Actions of virtual machines and images.
func (s *Service) Actions() []action.Action { panic("not yet") }
