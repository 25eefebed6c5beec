package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// storageCommand is for platform administrators.
func storageCommand() *cobra.Command {
	list := listing("list", "List storage sets with what is in them", "DescribeStorageSet", nothing, []column{plain("ID", "SetID"), plain("Type", "SetType"),
		plain("Name", "SetAlias"), plain("Driver", "SetProvider"), plain("GB", "StorageCap"), plain("Taken", "StorageUsed"),
		plain("Written", "StoragePhysicUsed"), plain("Free", "StoragePhysicAvailable"), plain("For", "Authorized")})
	var name, media string
	var replicas int
	var new, changed poolFlags
	create := command("create TYPE", "Make a storage set of a Ceph pool", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		p, err := new.params()
		if err != nil {
			return err
		}
		p["SetType"], p["Driver"], p["Media"] = args[0], "Ceph", media
		if name != "" {
			p["Alias"] = name
		}
		if replicas > 0 {
			p["Replicas"] = replicas
		}
		var made struct{ SetID string }
		if _, err := s.Call(ctx, "CreateStorageSet", p, &made); err != nil {
			return err
		}
		fmt.Fprintln(s.out, made.SetID)
		return nil
	})
	new.bind(create)
	create.Flags().StringVar(&name, "name", "", "what tenants are shown; default TYPE")
	create.Flags().StringVar(&media, "media", "SSD", "HDD, SSD or NVMe: what disks are limited by")
	create.Flags().IntVar(&replicas, "replicas", 0, "copies that the pool keeps, as shown")
	update := command("update SET", "Change how hosts reach a pool", cobra.ExactArgs(1), func(ctx context.Context, s *session, args []string) error {
		p, err := changed.params()
		if err != nil {
			return err
		}
		p["SetID"] = args[0]
		_, err = s.Call(ctx, "UpdateStorageSet", p, nil)
		return err
	})
	changed.bind(update)
	rename := once("rename TYPE NAME", "Change what tenants are shown", cobra.ExactArgs(2), func(args []string) (string, Params) {
		return "AliasStorageSet", Params{"SetType": args[0], "Alias": args[1]}
	})
	remove := once("delete SET", "Delete a storage set without disks", cobra.ExactArgs(1), func(args []string) (string, Params) {
		return "DeleteStorageSet", Params{"SetID": args[0]}
	})
	return group("storage", "Storage sets", list, create, update, rename, remove)
}

// poolFlags say how hosts reach a pool.
type poolFlags struct {
	monitors                     []string
	pool, user, keyFile, cluster string
}

func (p *poolFlags) bind(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&p.monitors, "monitor", nil, "ADDRESS or ADDRESS:PORT of the cluster's monitors")
	f.StringVar(&p.pool, "pool", "", "name of the RBD pool")
	f.StringVar(&p.user, "user", "", "cephx user, without client.")
	f.StringVar(&p.keyFile, "key-file", "", "file with the user's key, or its keyring; - reads the input")
	f.StringVar(&p.cluster, "cluster", "", "fsid of the cluster: hosts refuse another")
}

func (p *poolFlags) params() (Params, error) {
	out := Params{}
	if len(p.monitors) > 0 {
		out["CephConfig.Monitors"] = p.monitors
	}
	key, err := readKey(p.keyFile)
	for field, text := range map[string]string{"Pool": p.pool, "User": p.user, "Key": key, "ClusterID": p.cluster} {
		if text != "" {
			out["CephConfig."+field] = text
		}
	}
	return out, err
}

// readKey reads a cephx key, alone or in a keyring. It is no argument: other users see those.
func readKey(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	read := func() ([]byte, error) { return os.ReadFile(path) }
	if path == "-" {
		read = func() ([]byte, error) { return io.ReadAll(io.LimitReader(os.Stdin, 64<<10)) }
	}
	text, err := read()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if name, key, ok := strings.Cut(line, "="); ok && strings.TrimSpace(name) == "key" {
			return strings.TrimSpace(key), nil
		}
	}
	return strings.TrimSpace(string(text)), nil
}
