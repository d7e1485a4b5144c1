"""The gRPC interface for programs: JobService and RunService."""
