package host

import pb "github.com/lingyun-cloud/lingyun/internal/hostlink/hostlinkpb"

// CheckDomain refuses, with hostlink.ErrInvalid, a specification that no host takes. Simulated hosts ask it too.
func CheckDomain(s *pb.DomainSpec) error { return checkSpec(s) }

// CheckVolume is CheckDomain for volumes.
func CheckVolume(s *pb.VolumeSpec) error { return checkVolume(s) }
